-- Halves the pace and closes it until the next minute, unless that was done already. gcra.go is the same in Go.
--
-- KEYS  3 the pace (lease.lua describes it)
-- ARGV  1 now (start.lua)
-- Returns the time in µs until it opens
local pace = redis.call('HMGET', KEYS[3], 'closed', 'slow', 'slow_since')
local closed, slow, since = tonumber(pace[1] or 0) or 0, tonumber(pace[2] or 0) or 0, tonumber(pace[3] or 0) or 0
if closed > now and closed <= now + 60000000 then return closed - now end

local factor = 1000
if slow > 0 then factor = math.min(1000, slow + 50 * math.floor(math.max(0, now - since) / 10000000)) end
slow = math.max(50, math.floor(factor / 2))
closed = (math.floor(now / 60000000) + 1) * 60000000
redis.call('HSET', KEYS[3], 'slow', slow, 'closed', string.format('%.0f', closed), 'slow_since', string.format('%.0f', closed))
redis.call('EXPIRE', KEYS[3], 259200)
return closed - now
