-- Put in balances that were read from Postgres: forward over an earlier version or, where nothing is held or the same
-- version is to be renewed, under the lease that was claimed before Postgres was asked.
-- KEYS: credits:{user_id} and credits-lease:{user_id} of each user.
-- ARGV: for each user token, balance, version, unlimited (1 or 0), age in ms, time to live in ms.
-- Returns, packed: for each true if written, false if refused, or [balance, version, unlimited, age in ms] if the cache
-- holds the same or a later version.
local answers = {}
for index = 1, #KEYS / 2 do
    local entry, lease = KEYS[index * 2 - 1], KEYS[index * 2]
    local token, balance, version, unlimited, age_ms, ttl_ms = unpack(ARGV, index * 6 - 5, index * 6)
    local held = held_in(entry)
    local is_behind = held and held[2] < tonumber(version)
    local is_ahead = held and held[2] > tonumber(version)
    if is_behind or (not is_ahead and redis.call('GET', lease) == token) then
        write(entry, lease, balance, version, unlimited, age_ms, ttl_ms)
        answers[index] = true
    else
        answers[index] = held or false
    end
end
return cmsgpack.pack(answers)
