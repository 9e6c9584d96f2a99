-- Gives back a slot that is only held, or any: record.release and record.withdraw of record.go.
--
-- KEYS[1]  the user's record
-- ARGV[1]  the message's id, 16 bytes
-- ARGV[2]  1: also one that counts for good
--
-- Returns 1 if there was one.

local value = redis.call('HGET', KEYS[1], ARGV[1])
if value and (ARGV[2] == '1' or string.sub(value, -2, -2) == 'h') then return redis.call('HDEL', KEYS[1], ARGV[1]) end
return 0
