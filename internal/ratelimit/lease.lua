-- One holder reports where it stands and leases day tokens and pace slots. core.go is the same in Go.
--
-- KEYS  1 the day's ledger: hash of used, leased, other, and of each holder (with '@' before it)
--         "seq spent leased lapsed tokens n start interval"
--       2 its holders: zset, holder -> end of its lease
--       3 the pace: hash of open, reserved, closed, slow, slow_since, limit; and of how it was rebuilt: run, since, careful
-- ARGV  1 now (start.lua)  2 day  3 holder  4 seq  5 spent  6 acked  7 held
--       8 want  9 free  10 bare  11 max wait  12 urgent (1 or 0)
--       13 per day  14 margin, ppm  15 reserve, ppm  16 open interval  17 reserved interval (0: no such line)
--       18 rebuilt (1 or 0)  19 when acked was answered, by the now of that answer
-- Times are microseconds, intervals nanoseconds.
-- Returns {'day', today} | {'unknown'} | {'old'}
--       | {'ok', tokens, n, start - now, interval, left, leased, midnight - now, what is withheld comes free - now (0: nothing is), now}
local BURST, CREDIT, LEASE, FAR_AHEAD, MINUTE = 250000, 50000, 30000000, 5000000, 60000000
local BLOCK, TTL = 200, 259200 -- three days: yesterday's ledger outlives every pod that may still report to it

if today ~= tonumber(ARGV[2]) then return {'day', today} end
local told = redis.call('HMGET', KEYS[3], 'open', 'reserved', 'closed', 'slow', 'slow_since', 'limit', 'since', 'careful')
if not known then
  if ARGV[18] == '0' then return {'unknown'} end
  redis.call('HSET', KEYS[3], 'run', run)
end

local holder, seq, spent, acked, held = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local want, free, bare, max_wait = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local urgent = ARGV[12] == '1'

local function ceil_div(a, b) return math.floor((a + b - 1) / b) end
local function whole(x) return string.format('%.0f', x) end -- Lua would write 1.7e+15
local function numbers(t)
  local r = {}
  for i = 1, #t do r[i] = tonumber(t[i] or 0) or 0 end
  return r
end

local function record(h)
  local s = redis.call('HGET', KEYS[1], '@' .. h)
  if not s then return nil end
  local r = {}
  for n in string.gmatch(s, '%S+') do r[#r + 1] = tonumber(n) end
  return {seq = r[1], spent = r[2], leased = r[3], lapsed = r[4], tokens = r[5], n = r[6], start = r[7], interval = r[8]}
end
local function written(r)
  return string.format('%.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f',
    r.seq, r.spent, r.leased, r.lapsed, r.tokens, r.n, r.start, r.interval)
end

local book = numbers(redis.call('HMGET', KEYS[1], 'used', 'leased', 'other'))
local used, leased, other = book[1], book[2], book[3]
local pace = numbers(told)
local limit = tonumber(ARGV[13])
if pace[6] > 0 then limit = pace[6] end

-- For what Redis has forgotten to have leased: withheld of core.go.
local withheld = 0
if pace[8] > 0 and now >= pace[7] and now < pace[7] + LEASE then withheld = math.min(pace[8], math.floor(limit / 10) + 16) end

local function left()
  local allowed = limit - math.floor(limit * tonumber(ARGV[14]) / 1000000) - withheld
  if not urgent then allowed = allowed - math.floor(limit * tonumber(ARGV[15]) / 1000000) end
  return math.max(0, allowed - used - other - leased)
end
local function answer(r)
  return {'ok', r.tokens, r.n, r.start - now, r.interval, left(), leased, (today + 1) * 86400000000 - (now + 28800000000),
    withheld > 0 and pace[7] + LEASE - now or 0, now}
end

local r = record(holder)
if r and seq < r.seq then return {'old'} end
if r and seq == r.seq then return answer(r) end

-- What silent holders hold counts as used.
for _, h in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', whole(now))) do
  local gone = record(h)
  used, leased = used + gone.leased, leased - gone.leased
  gone.lapsed, gone.leased = gone.lapsed + gone.leased, 0
  redis.call('HSET', KEYS[1], '@' .. h, written(gone))
  redis.call('ZREM', KEYS[2], h)
  if h == holder then r = gone end
end

-- Where this holder stands.
local first = not r -- of the day
local counted = pace[8] > 0
local astray = counted and tonumber(ARGV[19]) > pace[7]
r = r or {spent = astray and 0 or acked, leased = 0, lapsed = 0}
if counted and not astray then r.spent = math.max(r.spent, acked) end
used = used + spent - r.spent - r.lapsed
leased = leased + held - r.leased
r = {seq = seq, spent = spent, leased = held, lapsed = 0, tokens = 0, n = 0, start = now, interval = 0}

-- What it gets.
if want > 0 then
  if redis.call('ZADD', KEYS[2], whole(now + LEASE), holder) == 1 then redis.call('EXPIRE', KEYS[2], TTL) end
  local pods = redis.call('ZCARD', KEYS[2]) -- that leased lately; this one is one of them
  local factor = 1000
  if pace[4] > 0 then
    factor = math.min(1000, pace[4] + 50 * math.floor(math.max(0, now - pace[5]) / 10000000))
  end
  local function line(next, interval)
    interval = ceil_div(interval * 1000, factor)
    if next > now + FAR_AHEAD + pods * ceil_div(interval, 1000) then next = now + BURST end
    local closed = pace[3]
    if closed > now + MINUTE then closed = now end
    return math.max(next, closed, now - CREDIT), interval
  end
  local field = 'open'
  local start, interval = line(pace[1], tonumber(ARGV[16]))
  if urgent and ARGV[17] ~= '0' then
    local s, i = line(pace[2], tonumber(ARGV[17]))
    if math.max(s, now) < math.max(start, now) then field, start, interval = 'reserved', s, i end
  end
  r.start, r.interval = start, interval
  if start - now <= max_wait then
    local most = math.max(1, math.floor(math.floor(BURST * 1000 / interval) / pods))
    local n = math.min(want, BLOCK, most)
    local rest = left()
    r.tokens = math.max(0, math.min(n - free - bare, rest, math.max(1, math.floor(rest / (20 * pods)))))
    r.n = math.min(n, r.tokens + free + bare)
  end
  if r.n > 0 then redis.call('HSET', KEYS[3], field, whole(start + ceil_div(r.n * interval, 1000))) end
  r.leased, leased = r.leased + r.tokens, leased + r.tokens
elseif r.leased > 0 then
  redis.call('ZADD', KEYS[2], whole(now + LEASE), holder)
  redis.call('EXPIRE', KEYS[2], TTL)
else
  redis.call('ZREM', KEYS[2], holder)
end

redis.call('HSET', KEYS[1], '@' .. holder, written(r), 'used', whole(used), 'leased', whole(leased))
if first or not known then
  redis.call('EXPIRE', KEYS[1], TTL)
  redis.call('EXPIRE', KEYS[3], TTL)
end
return answer(r)
