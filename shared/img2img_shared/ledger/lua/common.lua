-- What every script of the ledger begins with: names of keys, the clock, and the moves that several scripts share.
-- KEYS[1] is the farm's hash tag; all keys begin with it, so that one script may touch a job, its model and its tenant.
--
-- The invariants that these functions keep:
--   an image in none of {back, suspects, delayed, running, failed, done} is pending if its index is not below `next`;
--   a job is in its model's `schedule` if and only if it is open and has an image to give out at once;
--   a job is in its model's `suspected` if and only if it is open and has suspects;
--   an attempt is current if and only if its nonce is in its model's `leases`: who removes it there may report its end.
local FARM = KEYS[1]
local CLASS = 1e12 -- room for virtual times in one class of priority; 201 classes of it fit a double exactly
local DEATHS = 3 -- so many workers may die on an image before it fails
local TROUBLES = 5 -- so often it may be put back because a worker could not do it, before it fails
local PACE = 256 -- so many ends of images are remembered for a job's rate
local EVENTS = 1000 -- about so many events are kept of a job
local PARDON = 24 * 3600 * 1000 -- ms after which a worker that was taken for dead is not asked about any more
local JOB_PARTS = {'back', 'suspects', 'running', 'failed', 'done', 'attempts', 'deaths', 'troubles', 'pace', 'events'}

local function job_key(job, part)
  if part then return FARM .. ':job:' .. job .. ':' .. part end
  return FARM .. ':job:' .. job
end

local function model_key(model, part) return FARM .. ':model:' .. part .. ':' .. model end
local function worker_key(worker) return FARM .. ':worker:' .. worker end
local function dead_key(nonce) return FARM .. ':dead:' .. nonce end
local function tenant_key(tenant) return FARM .. ':tenant:' .. tenant end
local function submissions_key() return FARM .. ':submissions' end
local function abandoned_key(job) return FARM .. ':abandoned:' .. job end
local function idempotency_key(tenant, key) return FARM .. ':once:' .. tenant .. ':' .. key end

local time = redis.call('TIME')
local NOW = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function hget(key, field) return redis.call('HGET', key, field) end

local function counts(job)
  local c = redis.call('HMGET', job_key(job), 'n', 'done', 'failed', 'running', 'cancelled', 'paused', 'finished')
  return {
    n = tonumber(c[1]), done = tonumber(c[2]), failed = tonumber(c[3]), running = tonumber(c[4]),
    cancelled = c[5], paused = c[6], finished = c[7],
  }
end

local function state_of(c)
  if c.cancelled then return 'cancelled' end
  if c.done + c.failed >= c.n then return 'done' end
  if c.paused then return 'paused' end
  if c.done + c.failed + c.running > 0 then return 'running' end
  return 'pending'
end

-- Each event carries the counters, so that a watcher needs no second call.
local function event(job, index, state, attempt, reason)
  local c = counts(job)
  redis.call('XADD', job_key(job, 'events'), 'MAXLEN', '~', EVENTS, '*',
    'index', index or '', 'state', state or state_of(c), 'attempt', attempt or '', 'reason', reason or '',
    'job', state_of(c), 'n', c.n, 'done', c.done, 'failed', c.failed, 'running', c.running)
end

-- Puts a job where its images can be claimed, or takes it from there.
-- It enters its class at the lowest virtual time there (or the last, where the class is empty: who paused must not
-- wait for all that it had before), or at its own if that is later.
local function place(job)
  local h = redis.call('HMGET', job_key(job), 'model', 'priority', 'paused', 'cancelled', 'next', 'n', 'vt')
  if not h[1] then return end
  local schedule, suspected = model_key(h[1], 'schedule'), model_key(h[1], 'suspected')
  local open = not h[3] and not h[4]
  local base = -tonumber(h[2]) * CLASS
  local score = redis.call('ZSCORE', schedule, job)
  if open and (tonumber(h[5]) < tonumber(h[6]) or redis.call('EXISTS', job_key(job, 'back')) == 1) then
    if not score then
      local lowest = redis.call('ZRANGEBYSCORE', schedule, base, base + CLASS - 1, 'WITHSCORES', 'LIMIT', 0, 1)
      local floor = lowest[2] and tonumber(lowest[2]) - base or hget(model_key(h[1], 'floor'), h[2]) or '0'
      local vt = math.max(tonumber(h[7] or '0'), tonumber(floor))
      redis.call('ZADD', schedule, base + vt, job)
    end
  elseif score then
    redis.call('HSET', job_key(job), 'vt', tonumber(score) - base)
    redis.call('ZREM', schedule, job)
  end
  if open and redis.call('EXISTS', job_key(job, 'suspects')) == 1 then
    redis.call('ZADD', suspected, -tonumber(h[2]), job)
  else
    redis.call('ZREM', suspected, job)
  end
end

-- A job of which nothing more can come is finished, and forgotten after its time.
local function settle(job)
  local c = counts(job)
  if c.finished or not (c.done + c.failed >= c.n or (c.cancelled and c.running == 0)) then return end
  redis.call('HSET', job_key(job), 'finished', NOW)
  event(job)
  local h = redis.call('HMGET', job_key(job), 'keep', 'once', 'tenant')
  redis.call('PEXPIRE', job_key(job), h[1])
  for _, part in ipairs(JOB_PARTS) do redis.call('PEXPIRE', job_key(job, part), h[1]) end
  if h[2] then redis.call('PEXPIRE', idempotency_key(h[3], h[2]), h[1]) end
end

-- The fence: the claim that `nonce` names, once; false when it is not current any more.
local function drop(model, nonce)
  if redis.call('ZREM', model_key(model, 'leases'), nonce) == 0 then return false end
  local text = hget(model_key(model, 'claims'), nonce)
  redis.call('HDEL', model_key(model, 'claims'), nonce)
  local job, index, attempt, alone, worker = string.match(text, '^(%S+) (%d+) (%d+) ([01]) (.*)$')
  redis.call('HDEL', job_key(job, 'running'), index)
  redis.call('HINCRBY', job_key(job), 'running', -1)
  if redis.call('HINCRBY', model_key(model, 'holding'), worker, -1) == 0 then
    redis.call('HDEL', model_key(model, 'holding'), worker)
  end
  if alone == '1' then redis.call('HDEL', model_key(model, 'alone'), worker) end
  return {job = job, index = index, attempt = attempt, worker = worker}
end

-- How often an image was put back in trouble, until when it is for other workers, and than which; nil: never.
local function trouble_with(job, index)
  local tries, others, worker = string.match(hget(job_key(job, 'troubles'), index) or '', '^(%d+) (%d+) (.*)$')
  return tonumber(tries), tonumber(others), worker
end

-- Where an image waits that was begun before: on which a worker died, apart.
local function wait_again(job, index)
  local part = redis.call('HEXISTS', job_key(job, 'deaths'), index) == 1 and 'suspects' or 'back'
  redis.call('ZADD', job_key(job, part), index, index)
end

-- An attempt ended without a result: its image is pending again, at once or after `delay` ms.
local function hand_back(model, claim, delay)
  local job = claim.job
  redis.call('HSET', job_key(job, 'attempts'), claim.index, claim.attempt)
  if hget(job_key(job), 'cancelled') then
    event(job, claim.index, 'cancelled', claim.attempt)
    settle(job)
    return
  end
  if delay > 0 then
    redis.call('ZADD', model_key(model, 'delayed'), NOW + delay, job .. ' ' .. claim.index)
  else
    wait_again(job, claim.index)
    place(job)
  end
  event(job, claim.index, 'pending', claim.attempt)
end

local function end_with(claim, state, reason)
  local job = claim.job
  redis.call('HINCRBY', job_key(job), state, 1)
  redis.call('HDEL', job_key(job, 'troubles'), claim.index)
  redis.call('LPUSH', job_key(job, 'pace'), NOW)
  redis.call('LTRIM', job_key(job, 'pace'), 0, PACE - 1)
  event(job, claim.index, state, claim.attempt, reason)
  settle(job)
end

local function fail(claim, reason)
  redis.call('HSET', job_key(claim.job, 'attempts'), claim.index, claim.attempt)
  redis.call('HSET', job_key(claim.job, 'failed'), claim.index, reason)
  end_with(claim, 'failed', reason)
end

-- A worker that was taken for dead speaks again: that death is struck off.
local function pardon(nonce)
  local text = redis.call('GET', dead_key(nonce))
  if not text then return end
  redis.call('DEL', dead_key(nonce))
  local job, index = string.match(text, '^(%S+) (%d+)$')
  if redis.call('HEXISTS', job_key(job, 'deaths'), index) == 0 then return end
  if redis.call('HINCRBY', job_key(job, 'deaths'), index, -1) > 0 then return end
  redis.call('HDEL', job_key(job, 'deaths'), index)
  if redis.call('ZREM', job_key(job, 'suspects'), index) == 1 then
    wait_again(job, index)
    place(job)
  end
end

-- Images whose time to be tried again has come.
local function promote(model)
  local delayed = model_key(model, 'delayed')
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', delayed, '-inf', NOW, 'LIMIT', 0, 100)) do
    redis.call('ZREM', delayed, member)
    local job, index = string.match(member, '^(%S+) (%d+)$')
    local h = redis.call('HMGET', job_key(job), 'n', 'cancelled')
    if h[1] and not h[2] then
      wait_again(job, index)
      place(job)
    end
  end
end

local function owned(tenant, job) return hget(job_key(job), 'tenant') == tenant end
