-- Remembers why a token call failed, for all pods, and frees the lock.
--
-- KEYS[1]  the refusal   KEYS[2]  the lock
-- ARGV[1]  owner of the lock   ARGV[2]  the refusal   ARGV[3]  ms it lives
--
-- Returns 1, or 0 if the lock was somebody else's by then.

if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('DEL', KEYS[2])
return 1
