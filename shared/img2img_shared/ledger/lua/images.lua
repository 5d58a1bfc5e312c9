-- The states of images start, start + 1, ... of a job: a letter for each, and {place, attempt, worker or reason} for
-- those with more to say than the default (no attempt at pending or cancelled ones, one at finished ones).
local tenant, id, start, count = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local job = owned(tenant, id) and load(id)
if not job then return false end
local last = math.min(start + count, job.n) - 1
if last < start then return {'', {}} end
local indexes = {}
for index = start, last do indexes[#indexes + 1] = index end

local function of_each(part)
  if redis.call('EXISTS', job_key(id, part)) == 0 then return {} end
  return redis.call('HMGET', job_key(id, part), unpack(indexes))
end

local running, failed, attempts = of_each('running'), of_each('failed'), of_each('attempts')
local first = math.floor(start / 8)
local bits = redis.call('GETRANGE', job_key(id, 'done'), first, math.floor(last / 8))
local waiting = job.cancelled and 'c' or 'p'
local states, more = {}, {}
for i, index in ipairs(indexes) do
  local byte = string.byte(bits, math.floor(index / 8) - first + 1) or 0
  local state, usual, attempt, detail = waiting, 0, tonumber(attempts[i] or '0'), ''
  if bit.band(byte, bit.rshift(128, index % 8)) ~= 0 then
    state, usual, attempt = 'd', 1, math.max(attempt, 1)
  elseif running[i] then
    local current, worker = string.match(running[i], '^(%d+) (.*)$')
    state, usual, attempt, detail = 'r', -1, tonumber(current), worker
  elseif failed[i] then
    state, usual, detail = 'f', -1, failed[i]
  end
  states[i] = state
  if attempt ~= usual then more[#more + 1] = {i - 1, attempt, detail} end
end
return {table.concat(states), more}
