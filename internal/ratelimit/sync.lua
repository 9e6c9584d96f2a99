-- Takes WeChat's own count of a day. core.go is the same in Go.
--
-- KEYS  1 the day's ledger  3 the pace (lease.lua describes them; 2 is not used)
-- ARGV  1 now ('': Redis' clock)  2 day  3 limit (0: not told)  4 used
-- Returns {'day', today} | {'ok'}
local now = tonumber(ARGV[1])
if not now then
  local t = redis.call('TIME')
  now = tonumber(t[1]) * 1000000 + tonumber(t[2])
end
local today = math.floor((now + 28800000000) / 86400000000)
if today ~= tonumber(ARGV[2]) then return {'day', today} end

-- WeChat has counted what the dead spent, and some of what is leased: spent, and not reported yet.
local book = redis.call('HMGET', KEYS[1], 'used', 'leased', 'other')
local used, leased, other = tonumber(book[1] or 0), tonumber(book[2] or 0), tonumber(book[3] or 0)
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if string.sub(all[i], 1, 1) == '@' then
    local seq, spent, leased, lapsed, rest = string.match(all[i + 1], '^(%S+) (%S+) (%S+) (%S+) (.*)$')
    if lapsed ~= '0' then
      used, other = used - tonumber(lapsed), other + tonumber(lapsed)
      redis.call('HSET', KEYS[1], all[i], seq .. ' ' .. spent .. ' ' .. leased .. ' 0 ' .. rest)
    end
  end
end
local most = tonumber(ARGV[4]) - used
other = math.max(0, math.min(math.max(other, most - leased), most))
redis.call('HSET', KEYS[1], 'used', string.format('%.0f', used), 'other', string.format('%.0f', other))
redis.call('EXPIRE', KEYS[1], 259200)
redis.call('HSETNX', KEYS[3], 'limit', '0')
if tonumber(ARGV[3]) > 0 then redis.call('HSET', KEYS[3], 'limit', ARGV[3]) end
redis.call('EXPIRE', KEYS[3], 259200)
return {'ok'}
