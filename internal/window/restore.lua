-- Makes a record again from what is kept elsewhere, unless somebody has done so since this start of Redis, or it was read for
-- an earlier one. A second reading comes too late: answers went by the first, and what was about to be answered then, and has
-- no slot here, would get one beside them. What the user did counts from any.
--
-- KEYS[1]  the user's record
-- KEYS[2]  the start of Redis since which the record was made again
-- ARGV[1]  the start that the reading was for
-- ARGV[2]  seconds that the record lives
-- ARGV[3]  how many marks follow: a field and when, in seconds, of each; the rest are answers: an id and when, of each
--
-- Returns 1 if the record was made again.

local info = redis.pcall('INFO', 'server')
local run = type(info) == 'string' and string.match(info, 'run_id:(%w+)') or 'unknown'
local answers = 4 + 2 * tonumber(ARGV[3])
for i = 4, answers - 1, 2 do
  local known = tonumber(redis.call('HGET', KEYS[1], ARGV[i]) or 0)
  if tonumber(ARGV[i + 1]) > known then redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
end
local first = run == ARGV[1] and redis.call('GET', KEYS[2]) ~= run
if first then
  for i = answers, #ARGV, 2 do
    local at, from = tonumber(ARGV[i + 1]), 0
    local value = redis.call('HGET', KEYS[1], ARGV[i])
    if value then
      at, from = math.max(at, tonumber(string.sub(value, 1, -3))), tonumber(string.sub(value, -1))
    end
    redis.call('HSET', KEYS[1], ARGV[i], string.format('%dc%d', at, from))
  end
  redis.call('SET', KEYS[2], run, 'EX', ARGV[2])
end
if redis.call('TTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
return first and 1 or 0
