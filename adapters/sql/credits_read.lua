-- What the cache holds of some users. Changes nothing.
-- KEYS: credits:{user_id} of each user.
-- Returns, packed: for each [balance, version, unlimited, age in ms], or false.
local answers = {}
for index, entry in ipairs(KEYS) do
    answers[index] = held_in(entry) or false
end
return cmsgpack.pack(answers)
