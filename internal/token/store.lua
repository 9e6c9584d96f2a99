-- Stores a token that was fetched under the lock, unless somebody else had the lock or wrote meanwhile.
--
-- KEYS[1]  the token   KEYS[2]  the refusal   KEYS[3]  the lock
-- ARGV[1]  owner of the lock
-- ARGV[2]  generation that stood there when the lock was taken
-- ARGV[3]  the token, sealed
-- ARGV[4]  ms it lives
-- ARGV[5]  ms until it should be renewed
-- ARGV[6]  generation that the new one must exceed
-- ARGV[7]  1: it is the token that stood there, given again; the generation stays
--
-- Returns the generation, 0 if the write was refused.

if redis.call('GET', KEYS[3]) ~= ARGV[1] then return 0 end
local read = tonumber(ARGV[2])
local gen = tonumber(redis.call('HGET', KEYS[1], 'gen')) or 0
if gen ~= read and gen ~= 0 then -- 0: what we read has expired
  redis.call('DEL', KEYS[3])
  return 0
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[7] ~= '1' or gen == 0 then
  -- Not below the clock, so that generations grow over a loss of Redis too.
  gen = math.max(read + 1, tonumber(ARGV[6]) + 1, now)
end
redis.call('HSET', KEYS[1], 'gen', string.format('%d', gen), 'sealed', ARGV[3],
  'due', string.format('%d', now + tonumber(ARGV[5])))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('DEL', KEYS[2], KEYS[3])
return gen
