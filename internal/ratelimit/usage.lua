-- Looks at a day.
--
-- KEYS  1 the day's ledger  3 the pace (lease.lua describes them; 2 is not used)
-- ARGV  1 now (start.lua)  2 day
-- Returns {'day', today} | {'ok', known (1 or 0), limit told by WeChat or 0, used, leased, thousandths of the pace}
if today ~= tonumber(ARGV[2]) then return {'day', today} end

local function number(x) return tonumber(x or 0) or 0 end
local book = redis.call('HMGET', KEYS[1], 'used', 'leased', 'other')
local pace = redis.call('HMGET', KEYS[3], 'limit', 'slow', 'slow_since')
local factor = 1000
if number(pace[2]) > 0 then
  factor = math.min(1000, number(pace[2]) + 50 * math.floor(math.max(0, now - number(pace[3])) / 10000000))
end
return {'ok', known and 1 or 0, number(pace[1]), number(book[1]) + number(book[3]), number(book[2]), factor}
