-- Notes the latest time of a thing: an action, unsubscribing or a refusal. Older ones change nothing.
--
-- KEYS[1]  the user's record
-- ARGV[1]  the field
-- ARGV[2]  when, in seconds
-- ARGV[3]  seconds that the record lives from now
--
-- Returns 1 if it was news.

local known = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or 0)
if tonumber(ARGV[2]) <= known then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if redis.call('TTL', KEYS[1]) < tonumber(ARGV[3]) then redis.call('EXPIRE', KEYS[1], ARGV[3]) end
return 1
