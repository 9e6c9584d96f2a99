-- Takes WeChat's own count of a day. core.go is the same in Go.
--
-- KEYS  1 the day's ledger  2 its holders  3 the pace (lease.lua describes them)
-- ARGV  1 now (start.lua)  2 day  3 limit (0: not told)  4 used  5 rebuilt (1 or 0): counted for a key that is not known
-- Returns {'day', today} | {'unknown'} | {'ok'}
if today ~= tonumber(ARGV[2]) then return {'day', today} end
if known and ARGV[5] == '1' then return {'ok'} end -- by another pod, since
if not known then
  if ARGV[5] == '0' then return {'unknown'} end
  -- What WeChat counts takes the place of a ledger that may have lost something, unless WeChat does not count this API.
  if tonumber(ARGV[4]) > 0 then redis.call('DEL', KEYS[1], KEYS[2]) end
  redis.call('HSET', KEYS[3], 'run', run, 'since', string.format('%.0f', now), 'careful', ARGV[4])
end

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
if tonumber(ARGV[3]) > 0 then redis.call('HSET', KEYS[3], 'limit', ARGV[3]) end
redis.call('EXPIRE', KEYS[3], 259200)
return {'ok'}
