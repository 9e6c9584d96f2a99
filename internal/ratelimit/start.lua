-- What each of the scripts begins with: the time, the day, and whether Redis knows the key.
--
-- KEYS  1 the day's ledger  2 its holders  3 the pace
-- ARGV  1 now in µs ('': Redis' clock)
local now = tonumber(ARGV[1])
if not now then
  local t = redis.call('TIME')
  now = tonumber(t[1]) * 1000000 + tonumber(t[2])
end
local today = math.floor((now + 28800000000) / 86400000000)

-- A Redis that has started again may have gone back to an earlier moment, so that a key is known to the run of
-- Redis by which it was rebuilt.
local info = redis.pcall('INFO', 'server')
local run = type(info) == 'string' and string.match(info, 'run_id:(%w+)') or 'unknown'
local known = redis.call('HGET', KEYS[3], 'run') == run

