-- Makes an answer count for good: record.confirm of record.go.
--
-- KEYS[1]  the user's record
-- ARGV[1]  when it was sent, in seconds
-- ARGV[2]  the message's id, 16 bytes
-- ARGV[3]  seconds that a new record lives
--
-- Returns 1 if the record changed.

local at, from = tonumber(ARGV[1]), 0
local value = redis.call('HGET', KEYS[1], ARGV[2])
if value then
  at, from = math.max(at, tonumber(string.sub(value, 1, -3))), tonumber(string.sub(value, -1))
end
local new = string.format('%dc%d', at, from)
if new == value then return 0 end
redis.call('HSET', KEYS[1], ARGV[2], new)
if redis.call('TTL', KEYS[1]) < 0 then redis.call('EXPIRE', KEYS[1], ARGV[3]) end
return 1
