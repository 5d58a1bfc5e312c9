-- Every script of the ledger begins with the parts in this folder. First part: names of keys, and the clock.
-- KEYS[1] is the farm's hash tag; all keys begin with it.
--
-- The invariants that the scripts keep:
--   an image in none of {back, suspects, delayed, running, failed, done} is pending if its index is not below `next`;
--   the lists that a job is in are those that its record in `open` says, which only `place` writes;
--   an attempt is current if and only if its nonce is in its model's `leases`: who removes it there may report its end;
--   a job whose hash somebody deleted is forgotten when it is met, and does not affect the others;
--   a script that meets a key of the wrong type ends before it has changed anything.

-- Redis does not say which key has the wrong type for a command: put its name into the error.
local server, redis, type = redis, {}, type
local try = server.pcall
function redis.call(...)
  local answer = try(...)
  if type(answer) == 'table' and answer.err then
    local is_unfit = string.find(answer.err, '^WRONGTYPE') or string.find(answer.err, 'is not an integer')
    if is_unfit then answer.err = 'WRONGTYPE ' .. select(2, ...) end
    error(answer, 0)
  end
  return answer
end

local FARM = KEYS[1]
local JOB_PARTS = {
  back = 'zset', suspects = 'zset', running = 'hash', failed = 'hash', done = 'string', attempts = 'hash', deaths = 'hash',
  troubles = 'hash', doubts = 'hash', lacking = 'hash', events = 'stream', pace = 'string', parts = 'set',
}

local USUAL_PARTS, RARE_PARTS = {'running', 'events', 'done'}, {}
for part in pairs(JOB_PARTS) do
  if part ~= 'running' and part ~= 'events' and part ~= 'done' then RARE_PARTS[#RARE_PARTS + 1] = part end
end

local function job_key(job, part)
  if part then return FARM .. ':job:' .. job .. ':' .. part end
  return FARM .. ':job:' .. job
end

local function model_key(model, part) return FARM .. ':model:' .. part .. ':' .. model end
local function jobs_key(model, priority, tenant) return model_key(model, 'jobs:' .. priority .. ':' .. tenant) end
local function worker_key(worker) return FARM .. ':worker:' .. worker end
local function holding_key(worker) return FARM .. ':worker:' .. worker .. ':holding' end
local function reserved_key(worker) return FARM .. ':worker:' .. worker .. ':reserved' end
local function order_key(worker) return FARM .. ':worker:' .. worker .. ':order' end
local function outdone_key(worker) return FARM .. ':worker:' .. worker .. ':outdone' end
local function dead_key(nonce) return FARM .. ':dead:' .. nonce end
local function tenant_key(tenant) return FARM .. ':tenant:' .. tenant end
local function changed_key(tenant) return FARM .. ':changed:' .. tenant end
local function pushed_models_key() return FARM .. ':gateway:models' end -- see pushed_models/model_index.py
local function arrivals_key() return FARM .. ':arrivals' end
local function removing_key(sha256) return pushed_models_key() .. ':removing:' .. sha256 end
local function submissions_key() return FARM .. ':submissions' end
local function naming_key(job) return FARM .. ':naming:' .. job end
local function submitted_key(tenant) return FARM .. ':submitted:' .. tenant end
local function abandoned_key(job) return FARM .. ':abandoned:' .. job end
local function idempotency_key(tenant, key) return FARM .. ':once:' .. tenant .. ':' .. key end
local function answer_key(tenant, verb, id, key) return FARM .. ':answer:' .. table.concat({tenant, verb, id, key}, ':') end

local OPEN, WAITING, UNDER_WAY = FARM .. ':open', FARM .. ':waiting', FARM .. ':under_way'
local BOARD, STARVED = FARM .. ':board', FARM .. ':starved'
local ANSWERS = 10 * 60 * 1000 -- ms for which answers are kept for callers that repeat a call
local SILENCE = 60 * 1000 -- ms without a sign of life after which a loading worker has died of its load
local LOADS = 10 * 60 * 1000 -- ms for which it is remembered that a worker did not come back from a load
local LOAD_SECONDS, IMAGE_SECONDS = FARM .. ':load_seconds', FARM .. ':image_seconds'
local WORKERS, SERVED, MODELS, CANCELS = FARM .. ':workers', FARM .. ':served', FARM .. ':models', FARM .. ':cancels'
local AUDIT = FARM .. ':audit'
local STORED = FARM .. ':stored'
local DUE, REMOVED, DOOMED, JANITOR = FARM .. ':due', FARM .. ':removed', FARM .. ':doomed', FARM .. ':janitor'

local time = redis.call('TIME')
local NOW = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

-- Whether it is a finite number that is exact.
local function is_number(text)
  local found = tonumber(text or '')
  return found and found == found and math.abs(found) < 2 ^ 53
end

-- The text as a number; `otherwise` (0) if it is not one.
local function number(text, otherwise) return is_number(text) and tonumber(text) or otherwise or 0 end

local function type_of(key) return try('TYPE', key).ok end

-- Adds to a number in a hash, and returns the sum; what is not a number counts as 0.
local function add(key, field, change)
  local sum = try('HINCRBY', key, field, change)
  if type(sum) == 'number' then return sum end
  redis.call('HSET', key, field, change)
  return change
end

-- If the clock was set back, expiries and moments in the future may be later than any that is written now. They then
-- count as if they had been written now, so that nobody waits for hours.
local LONGEST = 3600 * 1000 -- the longest that an image waits, in ms: the longest lease, and the wait for tiles; a beat lasts for half

local function expire_within(key, ms)
  if redis.call('PTTL', key) > ms then redis.call('PEXPIRE', key, ms) end
end

local function is_to_come(moment, within) return moment > NOW and moment <= NOW + within end

local function hget(key, field) return redis.call('HGET', key, field) end

-- The members of all lists, each once, in their order.
local function union(...)
  local all, known = {}, {}
  for _, list in ipairs({...}) do
    for _, each in ipairs(list) do
      if not known[each] then
        known[each] = true
        all[#all + 1] = each
      end
    end
  end
  return all
end
