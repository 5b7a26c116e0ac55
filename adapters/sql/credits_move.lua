-- What events do: they move an entry forward, or drop it if they are late. They never begin one, for a later version
-- may have been there and gone; but they end every lease, for a reader may be on its way with less.
-- KEYS: credits:{user_id} and credits-lease:{user_id} of each user.
-- ARGV: for each user balance, version, unlimited (1 or 0), late (1 or 0), time to live in ms.
-- Returns, packed: for each whether something is held now.
local answers = {}
for index = 1, #KEYS / 2 do
    local entry, lease = KEYS[index * 2 - 1], KEYS[index * 2]
    local balance, version, unlimited, late, ttl_ms = unpack(ARGV, index * 5 - 4, index * 5)
    local held = held_in(entry)
    local is_behind = held and held[2] < tonumber(version)
    redis.call('DEL', lease)
    if is_behind and late ~= '1' then
        write(entry, lease, balance, version, unlimited, 0, ttl_ms)
    elseif is_behind or not held then
        redis.call('DEL', entry)
        held = nil
    end
    answers[index] = held ~= nil
end
return cmsgpack.pack(answers)
