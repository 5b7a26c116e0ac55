-- Write an account's balance unless the cache holds the same or a later version of it.
-- KEYS[1] credits:{user_id}; ARGV: balance, version, unlimited (1 or 0), time to live in ms. Returns 1 if written.
local held = redis.call('HGET', KEYS[1], 'version')
if held and tonumber(held) >= tonumber(ARGV[2]) then
    return 0
end
redis.call('HSET', KEYS[1], 'balance', ARGV[1], 'version', ARGV[2], 'unlimited', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
