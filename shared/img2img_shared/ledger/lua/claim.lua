-- Claims the next image of a model for a worker: by priority, then the tenant that got least, then its job that got least
-- and was submitted first. With `above`, only an image of a higher priority than that.
local model, worker, nonce, lease, idle, above = unpack(ARGV)
local JOBS, LOOK = 128, 32 -- at most so many jobs, and so many handed-back images of each, are searched for one that this worker may have
local leases, tenants = model_key(model, 'leases'), model_key(model, 'tenants')

local function waited(id) return NOW - number(hget(job_key(id), 'created'), NOW) end

local function take(job, index, alone)
  local attempt = number(hget(job_key(job.id, 'attempts'), index)) + 1
  local text = job.id .. ' ' .. index .. ' ' .. attempt .. ' ' .. alone .. ' ' .. worker
  redis.call('ZADD', leases, NOW + tonumber(lease), nonce)
  redis.call('HSET', model_key(model, 'claims'), nonce, text)
  redis.call('HSET', job_key(job.id, 'running'), index, attempt .. ' ' .. worker)
  add(holding_key(worker), 'claims', 1)
  if alone == 1 then redis.call('HSET', holding_key(worker), 'alone', nonce) end
  if job.running + job.done + job.failed == 0 then redis.call('HSETNX', job_key(job.id), 'started', NOW) end
  set(job, 'running', job.running + 1)
  event(job, index, 'running', attempt)
  place(job)
  return {job.id, job.tenant, tonumber(index), attempt, alone, waited(job.id), job.priority}
end

-- The claim was made, but its reply was lost: return it again.
local before = hget(model_key(model, 'claims'), nonce)
if before then
  local id, index, attempt, alone = string.match(before, '^(%S+) (%d+) (%d+) ([01]) ')
  local job = load(id)
  if job then
    redis.call('ZADD', leases, NOW + tonumber(lease), nonce)
    return {id, job.tenant, tonumber(index), tonumber(attempt), tonumber(alone), waited(id), job.priority}
  end
  drop(model, nonce)
end
pardon(nonce)
promote(model)
adopt(model)

-- A worker's claims count over all its models: a suspect must be alone in its process.
local held = redis.call('HMGET', holding_key(worker), 'claims', 'alone')
if held[2] then return false end
local elsewhere = redis.call('GET', reserved_key(worker))
if elsewhere and elsewhere ~= model and redis.call('EXISTS', model_key(elsewhere, 'suspected')) == 1 then
  return false
end

-- The first job listed in a sorted set from `rank` on; jobs that were deleted by hand are forgotten.
local function job_at(listed, rank)
  while true do
    local id = redis.call('ZRANGE', listed, rank, rank)[1]
    if not id then return nil end
    local job = load(id)
    if job then return job end
    redis.call('ZREM', listed, id)
    forget(id)
  end
end

local function is_enough(priority) return above == '' or tonumber(priority) > tonumber(above) end

local listed = '^(%-?%d+) (%S+)$'
local function first_listed()
  for _ = 1, JOBS do -- with more foreign entries than that, the next claim continues
    local share = redis.call('ZRANGE', tenants, 0, 0)[1]
    if not share or string.find(share, listed) then return share end
    redis.call('ZREM', tenants, share) -- not one of the farm's entries
  end
end

local top = first_listed()
if above ~= '' and not (top and is_enough(string.match(top, '^%S+'))) then return false end
local suspected = job_at(model_key(model, 'suspected'), 0)
local first = suspected and redis.call('ZRANGE', job_key(suspected.id, 'suspects'), 0, 0)[1]
if first and is_for_others(suspected, first, worker) then suspected = nil end
if suspected and (not top or suspected.priority >= tonumber(string.match(top, '^%S+'))) then
  -- A suspect's turn. It goes to an idle worker. So that it does not starve on a farm without idle workers, the first
  -- busy worker that asks is given nothing until it is idle.
  local reserved = model_key(model, 'reserved')
  if idle == '1' and not held[1] then
    local index = redis.call('ZPOPMIN', job_key(suspected.id, 'suspects'))[1]
    if index then return take(suspected, index, 1) end
    place(suspected)
  elseif top then
    expire_within(reserved, tonumber(lease))
    redis.call('SET', reserved, worker, 'NX', 'PX', lease)
    if redis.call('GET', reserved) == worker then
      redis.call('PEXPIRE', reserved, lease)
      redis.call('SET', reserved_key(worker), model, 'PX', lease)
      return false
    end
  end
end

-- An image of a job for this worker; nil if all that it has are kept for others.
local function pick(job)
  local back = redis.call('ZRANGE', job_key(job.id, 'back'), 0, LOOK - 1)
  if back[1] then
    local troubles = redis.call('HMGET', job_key(job.id, 'troubles'), unpack(back))
    for i, index in ipairs(back) do
      local tries, others, shunned = trouble_with(troubles[i] or '')
      local is_shunned = tries and shunned == worker and is_to_come(others, 2 * LONGEST)
      if not is_shunned and not is_for_others(job, index, worker) then
        redis.call('ZREM', job_key(job.id, 'back'), index)
        return index
      end
    end
  end
  if job.next >= job.n or is_for_others(job, job.next, worker) then return nil end
  set(job, 'next', job.next + 1)
  return job.next - 1
end

local looked = 0
local rank = 0
while looked < JOBS do
  local share = redis.call('ZRANGE', tenants, rank, rank)[1]
  if not share then return false end
  local priority, tenant = string.match(share, listed)
  if not priority then
    redis.call('ZREM', tenants, share)
    return false
  end
  if not is_enough(priority) then return false end
  local jobs = jobs_key(model, priority, tenant)
  local job_rank = 0
  while looked < JOBS do
    local job = job_at(jobs, job_rank)
    if not job then break end
    looked = looked + 1
    local index = pick(job)
    if index then
      redis.call('ZINCRBY', jobs, 1, job.id)
      redis.call('ZINCRBY', tenants, 1, share)
      return take(job, index, 0)
    end
    job_rank = job_rank + 1
  end
  if redis.call('EXISTS', jobs) == 1 then rank = rank + 1 else redis.call('ZREM', tenants, share) end
end
return false
