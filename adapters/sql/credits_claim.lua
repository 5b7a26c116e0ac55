-- Ask for the right to fill entries that are missing. The right is a lease, and a lease means: nothing was written to
-- this entry since. Every write ends it, and so does whatever empties the cache.
-- KEYS: credits:{user_id} and credits-lease:{user_id} of each user.
-- ARGV: a token, the lease in ms, then for each user the least version that will do.
-- Returns, packed: for each [balance, version, unlimited, age in ms] if that is held after all, or the lease's token.
local answers = {}
for index = 1, #KEYS / 2 do
    local entry, lease = KEYS[index * 2 - 1], KEYS[index * 2]
    local held = held_in(entry)
    if held and held[2] >= tonumber(ARGV[index + 2]) then
        answers[index] = held
    else
        -- Who asks second shares the first one's lease: one of them fills, and none can keep the others from it.
        redis.call('SET', lease, ARGV[1], 'NX', 'PX', ARGV[2])
        answers[index] = redis.call('GET', lease)
    end
end
return cmsgpack.pack(answers)
