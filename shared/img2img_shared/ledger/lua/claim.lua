-- The next image of a model for a worker: by priority, then the job that had least of its class.
local model, worker, nonce, lease, idle = unpack(ARGV)
local LOOK = 20 -- so many images that were handed back are looked at for one that is not kept for other workers
local leases, schedule, alone_by = model_key(model, 'leases'), model_key(model, 'schedule'), model_key(model, 'alone')

local function reply(text)
  local job, index, attempt, alone = string.match(text, '^(%S+) (%d+) (%d+) ([01]) ')
  return {job, hget(job_key(job), 'tenant'), tonumber(index), tonumber(attempt), tonumber(alone)}
end

local function take(job, index, alone)
  local attempt = tonumber(hget(job_key(job, 'attempts'), index) or '0') + 1
  local text = job .. ' ' .. index .. ' ' .. attempt .. ' ' .. alone .. ' ' .. worker
  redis.call('ZADD', leases, NOW + tonumber(lease), nonce)
  redis.call('HSET', model_key(model, 'claims'), nonce, text)
  redis.call('HSET', job_key(job, 'running'), index, attempt .. ' ' .. worker)
  redis.call('HINCRBY', job_key(job), 'running', 1)
  redis.call('HINCRBY', model_key(model, 'holding'), worker, 1)
  redis.call('HSETNX', job_key(job), 'started', NOW)
  if alone == 1 then redis.call('HSET', alone_by, worker, nonce) end
  event(job, index, 'running', attempt)
  return reply(text)
end

-- Asked for again because the reply was lost: the same claim.
local before = hget(model_key(model, 'claims'), nonce)
if before then
  redis.call('ZADD', leases, NOW + tonumber(lease), nonce)
  return reply(before)
end
pardon(nonce)
promote(model)
if redis.call('HEXISTS', alone_by, worker) == 1 then return false end

local top = redis.call('ZRANGE', schedule, 0, 0, 'WITHSCORES')
while top[1] and redis.call('EXISTS', job_key(top[1])) == 0 do -- somebody deleted it by hand
  redis.call('ZREM', schedule, top[1])
  top = redis.call('ZRANGE', schedule, 0, 0, 'WITHSCORES')
end
local suspected = redis.call('ZRANGE', model_key(model, 'suspected'), 0, 0, 'WITHSCORES')
if suspected[1] and (not top[1] or tonumber(suspected[2]) <= math.floor(tonumber(top[2]) / CLASS)) then
  -- A suspect's turn. It goes to an idle worker; so that it does not starve on a farm where none ever is,
  -- the first busy one that asks is given nothing until it is idle.
  local reserved = model_key(model, 'reserved')
  if idle == '1' and redis.call('HEXISTS', model_key(model, 'holding'), worker) == 0 then
    local job = suspected[1]
    local index = redis.call('ZPOPMIN', job_key(job, 'suspects'))[1]
    place(job)
    return take(job, index, 1)
  end
  if top[1] then
    redis.call('SET', reserved, worker, 'NX', 'PX', lease)
    if redis.call('GET', reserved) == worker then
      redis.call('PEXPIRE', reserved, lease)
      return false
    end
  end
end

local job = top[1]
if not job then return false end
local index
for _, waiting in ipairs(redis.call('ZRANGE', job_key(job, 'back'), 0, LOOK)) do
  local tries, others, shunned = trouble_with(job, waiting)
  if not tries or shunned ~= worker or others <= NOW then
    redis.call('ZREM', job_key(job, 'back'), waiting)
    index = waiting
    break
  end
end
if not index then
  local h = redis.call('HMGET', job_key(job), 'next', 'n')
  if tonumber(h[1]) >= tonumber(h[2]) then return false end
  index = redis.call('HINCRBY', job_key(job), 'next', 1) - 1
end
local priority = hget(job_key(job), 'priority')
redis.call('HSET', model_key(model, 'floor'), priority, tonumber(top[2]) + priority * CLASS)
redis.call('ZINCRBY', schedule, 1, job)
place(job)
return take(job, index, 0)
