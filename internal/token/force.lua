-- Takes one forced refresh out of the day's few.
--
-- KEYS[1]  hash of day (Beijing), count, last (ms)
-- ARGV[1]  refreshes a day   ARGV[2]  ms between two
--
-- Returns 0 taken, 1 too soon after the last, 2 none left today.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local day = math.floor((time[1] + 8 * 3600) / 86400)
local h = redis.call('HMGET', KEYS[1], 'day', 'count', 'last')
local count = tonumber(h[1]) == day and tonumber(h[2]) or 0
if count >= tonumber(ARGV[1]) then return 2 end
if h[3] and now - tonumber(h[3]) < tonumber(ARGV[2]) then return 1 end
redis.call('HSET', KEYS[1], 'day', day, 'count', count + 1, 'last', string.format('%d', now))
redis.call('EXPIRE', KEYS[1], 2 * 86400)
return 0
