-- Empty the cache of some users: entry and lease at once, so that no reader on its way can fill it with less.
-- KEYS: credits:{user_id} and credits-lease:{user_id} of each user. Returns how many entries there were.
local dropped = 0
for index = 1, #KEYS / 2 do
    dropped = dropped + redis.call('DEL', KEYS[index * 2 - 1])
    redis.call('DEL', KEYS[index * 2])
end
return dropped
