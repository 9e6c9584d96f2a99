-- Takes one answer from a user's allowances, for one message: record.reserve and record.spend of record.go, in one step.
--
-- KEYS[1]  the user's record
-- KEYS[2]  the start of Redis since which the record was made again, and KEYS[3] the start since when nothing was lost: nothing is
--          taken where the record may have lost something. Without them nobody looks.
-- ARGV[1]  now, in seconds
-- ARGV[2]  the message's id, 16 bytes
-- ARGV[3]  seconds that a slot is held
-- ARGV[4]  seconds that two clocks may stand apart
-- ARGV[5]  answers that a record keeps
-- ARGV[6]  1: the answer counts for good, it is about to be sent; 0: the slot is held
-- ARGV[7]  seconds that a record lives
-- ARGV[8…] for each trigger in order: its name, messages (negative: unlimited), seconds it lasts, margin in seconds
--
-- Returns {state, held, until}: state 0 open, 1 closed, 2 used, 3 unknown user; held 1 if the message had its slot
-- already; until in seconds, 0 if not open. Where the record may have lost something, there is a fourth: Redis' start.

local now, id, hold, skew, keep = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local goes = ARGV[6] == '1'

-- A Redis that has started again may have gone back to an earlier moment, and one that knows no age has lost everything.
if KEYS[2] then
  local info = redis.pcall('INFO', 'server')
  local run = type(info) == 'string' and string.match(info, 'run_id:(%w+)') or 'unknown'
  if redis.call('GET', KEYS[2]) ~= run then
    local of, since = string.match(redis.call('GET', KEYS[3]) or '', '^(%S+) (%d+)$')
    if of ~= run then
      since = now
      redis.call('SET', KEYS[3], string.format('%s %d', run, now))
    end
    if now - tonumber(since) < tonumber(ARGV[7]) then return {3, 0, 0, run} end
  end
end

-- The record: marks by name, answers by id.
local marks, sends, order = {}, {}, {}
local flat = redis.call('HGETALL', KEYS[1])
if #flat == 0 then return {3, 0, 0} end
for i = 1, #flat, 2 do
  local field, value = flat[i], flat[i + 1]
  if #field == 16 then -- "<seconds>h1": at, held or confirmed, place of the trigger (0 unknown)
    sends[field] = {id = field, at = tonumber(string.sub(value, 1, -3)),
      confirmed = string.sub(value, -2, -2) == 'c', from = tonumber(string.sub(value, -1))}
    order[#order + 1] = sends[field]
  else
    marks[field] = tonumber(value)
  end
end
local unsubscribed, late, many = marks['unsubscribed'] or 0, marks['45015'] or 0, marks['45047'] or 0

-- By time, then by the bytes of the id; Lua's own < would ask the server's locale.
local function before(a, b)
  if a.at ~= b.at then return a.at < b.at end
  for i = 1, 16 do
    local x, y = string.byte(a.id, i), string.byte(b.id, i)
    if x ~= y then return x < y end
  end
  return false
end
table.sort(order, before)

-- A mark ends a bucket: what went later counted for another.
local function ended_by(b, mark, slack)
  if mark == 0 or b.at > mark + slack then return false end
  b.over = math.min(b.over, mark + 1)
  return true
end

-- The allowances.
local buckets, longest, seen = {}, 0, unsubscribed > 0 or late > 0 or many > 0
for i = 8, #ARGV, 4 do
  local at, limit, lasts = marks[ARGV[i]] or 0, tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local b = {place = #buckets + 1, at = at, over = at + lasts, ends = at + lasts - tonumber(ARGV[i + 3]),
    limit = limit, used = 0, lasts = lasts, usable = at > 0 and limit ~= 0}
  local gone, refused = ended_by(b, unsubscribed, 0), ended_by(b, late, skew)
  b.shut = gone or refused
  b.spent = ended_by(b, many, skew)
  buckets[b.place] = b
  longest = math.max(longest, lasts)
  seen = seen or at > 0
end

local function room(b) return b.limit < 0 or b.used < b.limit end
local function in_time(b) return b.usable and not b.shut and now < b.ends end
local function first_to_expire(fits)
  local first
  for _, b in ipairs(buckets) do
    if fits(b) and (not first or b.ends < first.ends) then first = b end
  end
  return first
end

-- Charge each answer to the first to expire of those that were open when it went and had room.
for _, s in ipairs(order) do
  if s.confirmed or now < s.at + hold then
    local from, reach = buckets[s.from], longest
    if from and from.at > s.at then reach = from.lasts end
    s.charged = first_to_expire(function(b)
      return b.usable and b.at <= s.at and s.at < b.over and b.lasts <= reach and room(b)
    end)
    if s.charged then s.charged.used = s.charged.used + 1 end
  end
end

local function write(s)
  redis.call('HSET', KEYS[1], s.id, string.format('%d%s%d', s.at, s.confirmed and 'c' or 'h', s.from))
end

local mine = sends[id]
local held = mine and mine.charged and 1 or 0
if held == 1 and in_time(mine.charged) and not mine.charged.spent then
  if goes or not mine.confirmed then
    local at, confirmed = math.max(now, mine.at), mine.confirmed or goes
    if at ~= mine.at or confirmed ~= mine.confirmed then
      mine.at, mine.confirmed = at, confirmed
      write(mine)
    end
  end
  return {0, held, mine.charged.ends}
end

local from = first_to_expire(function(b) return in_time(b) and not b.spent and room(b) end)
if not from then
  if not seen then return {3, 0, 0} end
  for _, b in ipairs(buckets) do
    if in_time(b) then return {2, 0, 0} end
  end
  return {1, 0, 0}
end

-- Make room: what is too old to count, then the oldest that is charged to no limited allowance.
local kept, left = 0, {}
for _, s in ipairs(order) do
  local lasts = buckets[s.from] and buckets[s.from].lasts or longest
  if s == mine then
    -- exchanged for the new slot below
  elseif now >= s.at + lasts and now >= s.at + hold then
    redis.call('HDEL', KEYS[1], s.id)
  else
    kept, left[#left + 1] = kept + 1, s
  end
end
for _, s in ipairs(left) do
  if kept < keep then break end
  if not s.charged or s.charged.limit < 0 then
    redis.call('HDEL', KEYS[1], s.id)
    kept = kept - 1
  end
end
-- Where our clock is behind the event's, the answer still comes after it.
write({id = id, at = math.max(now, from.at), confirmed = goes, from = from.place})
return {0, held, from.ends}
