-- Says what is ours of a day before WeChat is asked for its own count, and takes that. core.go is the same in Go.
--
-- KEYS  1 the day's ledger  3 the pace (lease.lua describes them; 2 is not used)
-- ARGV  1 now (start.lua)  2 day
--       and after WeChat was asked  3 limit (0: not told)  4 used  5 rebuilt (1 or 0): counted for a key that is not known
--       6 what was ours before
-- Returns {'day', today} | {'unknown'} | {'ok', what is ours}
if today ~= tonumber(ARGV[2]) then return {'day', today} end
local limit, counted, rebuilt = tonumber(ARGV[3] or 0), tonumber(ARGV[4]), ARGV[5] == '1'
if rebuilt and known then return {'ok', 0} end -- by another pod, since
if not rebuilt and not known then return {'unknown'} end

local function whole(x) return string.format('%.0f', x) end
local book = redis.call('HMGET', KEYS[1], 'used', 'leased', 'other')
local used, leased, other = tonumber(book[1] or 0), tonumber(book[2] or 0), tonumber(book[3] or 0)
if rebuilt then
  -- What the ledger lost is counted for others', and all that is leased may still be spent.
  other = math.max(other, counted - used)
  redis.call('HSET', KEYS[3], 'run', run, 'since', whole(now), 'careful', ARGV[4])
else
  -- What the dead held may be spent or not: WeChat's count tells.
  local all = redis.call('HGETALL', KEYS[1])
  for i = 1, #all, 2 do
    if string.sub(all[i], 1, 1) == '@' then
      local seq, spent, leased, lapsed, rest = string.match(all[i + 1], '^(%S+) (%S+) (%S+) (%S+) (.*)$')
      if lapsed ~= '0' then
        used, other = used - tonumber(lapsed), other + tonumber(lapsed)
        if counted then redis.call('HSET', KEYS[1], all[i], seq .. ' ' .. spent .. ' ' .. leased .. ' 0 ' .. rest) end
      end
    end
  end
  if not counted then return {'ok', used} end
  -- In it stands what was ours before, and some of what was reported since and of what is leased.
  local most = counted - math.min(tonumber(ARGV[6]), used)
  other = math.max(0, math.min(math.max(other, counted - used - leased), most))
end
redis.call('HSET', KEYS[1], 'used', whole(used), 'other', whole(other))
redis.call('EXPIRE', KEYS[1], 259200)
if limit > 0 then redis.call('HSET', KEYS[3], 'limit', ARGV[3]) end
redis.call('EXPIRE', KEYS[3], 259200)
return {'ok', used}
