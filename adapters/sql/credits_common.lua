-- What the credit cache's scripts share; put before each of them.
-- An entry is a hash: balance, version, unlimited (1 or 0), and at_ms, Redis's own time at which that was true.
local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function whole(text)
    local number = tonumber(text)
    return number and number % 1 == 0 and number or nil
end

-- [balance, version, unlimited, age in ms] of an entry, or nil; what cannot be read is not held.
local function held_in(entry)
    local fields = redis.pcall('HMGET', entry, 'balance', 'version', 'unlimited', 'at_ms')
    local balance, version = whole(fields[1]), whole(fields[2])
    if balance and version then
        -- Whoever leaves at_ms out gets the age that no entry can exceed.
        local at_ms = whole(fields[4]) or now_ms - 33000
        return {balance, version, fields[3] == '1' and 1 or 0, now_ms - at_ms}
    end
end

local function write(entry, lease, balance, version, unlimited, age_ms, ttl_ms)
    redis.call('DEL', entry, lease)
    redis.call('HSET', entry, 'balance', balance, 'version', version, 'unlimited', unlimited,
        'at_ms', string.format('%.0f', now_ms - age_ms))
    redis.call('PEXPIRE', entry, ttl_ms)
end
