-- Looks at an account's token, and takes the lock for a refresh if one is wanted and nobody is at it.
--
-- KEYS[1]  the token: hash of sealed, gen, due (Redis' clock, ms: when it should be renewed)
-- KEYS[2]  WeChat's last refusal of a token call
-- KEYS[3]  the lock
-- ARGV[1]  owner of the lock to take; empty: look only
-- ARGV[2]  generation that is not good enough: a stored token above it needs no refresh
-- ARGV[3]  1: refresh only what is due
-- ARGV[4]  life of the lock, ms
--
-- Returns {locked, gen, sealed, ms it lives, ms until due, refusal, ms the refusal lives}.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local t = redis.call('HMGET', KEYS[1], 'gen', 'sealed', 'due')
local gen = tonumber(t[1]) or 0
local due = (tonumber(t[3]) or 0) - now
local refusal = redis.call('GET', KEYS[2]) or ''

local locked = 0
if ARGV[1] ~= '' and refusal == '' and gen <= tonumber(ARGV[2]) and (ARGV[3] ~= '1' or due <= 0) then
  if redis.call('SET', KEYS[3], ARGV[1], 'NX', 'PX', ARGV[4]) then locked = 1 end
end
return {locked, gen, t[2] or '', redis.call('PTTL', KEYS[1]), due, refusal, redis.call('PTTL', KEYS[2])}
