-- Writes a job in one call, whatever its number of images. Returns its id and its request, or those of the first job with
-- a repeated key. False: another job has this id; 'abandoned': its inputs were removed; 'gone HASH': a pushed model that
-- it names was removed. A caller that waits for the disk or a replica waits for the last write of its connection.
local function touch(job) redis.call('HSET', job_key(job), 'asked', NOW) end

local id, tenant, model, n, priority, data, once, keep, request, name, owner, tags, retain, whole = unpack(ARGV, 1, 14)
if once ~= '' then
  local first = redis.call('GET', idempotency_key(tenant, once))
  if first and redis.call('EXISTS', job_key(first)) == 1 then
    touch(first)
    return {first, hget(job_key(first), 'request') or ''}
  end
end
local h = redis.call('HMGET', job_key(id), 'tenant', 'data')
if h[1] then
  -- the same job again: the client's reply was lost
  if h[1] ~= tenant or h[2] ~= data then return false end
  touch(id)
  return {id, request}
end
if redis.call('EXISTS', abandoned_key(id)) == 1 then return 'abandoned' end
local above = whole ~= '' and load(string.match(whole, '^%S+'))
if whole ~= '' and (not above or above.cancelled) then return 'abandoned' end
-- the remover of such a file notes that first, and then looks for jobs that need the file
for i = 15, #ARGV do
  local is_there = redis.call('HEXISTS', pushed_models_key(), ARGV[i]) == 1
  if not is_there or redis.call('EXISTS', removing_key(ARGV[i])) == 1 then return 'gone ' .. ARGV[i] end
end
expect_to_change(tenant, model, priority, once)
expect_to_control(tenant)
expect('zset', submissions_key())
expect('list', submitted_key(tenant))
-- the tenant's list drops forgotten jobs as new ones arrive
for _, old in ipairs(redis.call('ZRANDMEMBER', tenant_key(tenant), 4)) do
  if redis.call('EXISTS', job_key(old)) == 0 then
    redis.call('ZREM', tenant_key(tenant), old)
    forget(old)
  end
end
redis.call('HSET', job_key(id), 'tenant', tenant, 'model', model, 'n', n, 'priority', priority, 'data', data,
  'keep', keep, 'created', NOW, 'arrival', redis.call('INCR', arrivals_key()), 'next', 0, 'done', 0, 'failed', 0,
  'running', 0)
for field, text in pairs({name = name, owner = owner, tags = tags, retain = retain, whole = whole}) do
  if text ~= '' then redis.call('HSET', job_key(id), field, text) end
end
if once ~= '' then
  redis.call('HSET', job_key(id), 'once', once, 'request', request)
  redis.call('SET', idempotency_key(tenant, once), id)
end
redis.call('ZADD', tenant_key(tenant), NOW, id)
redis.call('ZREM', submissions_key(), id)
redis.call('UNLINK', naming_key(id))
redis.call('RPUSH', submitted_key(tenant), id)
redis.call('LTRIM', submitted_key(tenant), -100, -1)
local job = load(id)
if above then
  redis.call('SADD', job_key(above.id, 'parts'), id)
  if above.paused then set(job, 'paused', NOW) end
end
event(job)
place(job)
return {id, request}
