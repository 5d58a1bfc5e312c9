-- Changes a job, and the jobs of its images' tiles, for a user. Returns false if the tenant has no such job, 'cancelled'
-- if it is too late, else what has changed, or what had changed at an earlier call with the same key. A retry returns
-- {images of the job that were retried, images still to be retried}, and is repeated until none is left.
local tenant, id, verb, value, by, once = unpack(ARGV)
local SHARE = 200 -- images retried per call, so that Redis is never blocked for long

-- `most`: how many of its failed images are retried.
local function control(id, job, most)
  if verb == 'cancel' or verb == 'interrupt' then
    -- an interrupted job may be cancelled as well: its images, which were to end early, end now
    local was_interrupted = verb == 'cancel' and unset(job, 'interrupted') == 1
    if not was_interrupted and (job.cancelled or job.done + job.failed >= job.n) then return 0 end
    audit(by, tenant, verb, id)
    redis.call('XADD', CANCELS, 'MAXLEN', '~', 1000, '*', 'job', id)
    if was_interrupted then return job.running end
    set(job, 'cancelled', 1)
    if verb == 'interrupt' then set(job, 'interrupted', 1) end
    redis.call('UNLINK', job_key(id, 'back'), job_key(id, 'suspects'))
    event(job)
    settle(job)
    place(job)
    return job.n - job.done - job.failed - (verb == 'interrupt' and job.running or 0)
  end

  if verb == 'keep' then
    if value == '' then unset(job, 'retain') else set(job, 'retain', value) end
    if job.finished then let_go(job) end
    audit(by, tenant, verb, id, value)
    note_change(tenant, id)
    return 1
  end

  if job.cancelled then return 'cancelled' end
  local changed = 0
  if verb == 'pause' then
    if job.done + job.failed < job.n and not job.paused then
      set(job, 'paused', NOW)
      changed = 1
    end
  elseif verb == 'resume' then
    if job.paused then
      skip_pause(job)
      changed = unset(job, 'paused')
    end
  elseif verb == 'priority' then
    if job.priority ~= tonumber(value) then
      unset(job, 'vt') -- virtual times of different classes do not compare
      set(job, 'priority', value)
      job.priority = tonumber(value)
      changed = 1
    end
  elseif verb == 'retry' then
    local indexes = most > 0 and redis.call('HRANDFIELD', job_key(id, 'failed'), most) or {}
    changed = #indexes
    for _, index in ipairs(indexes) do
      -- images that killed workers still run alone, but get all their lives back
      if redis.call('HEXISTS', job_key(id, 'deaths'), index) == 1 then
        redis.call('HSET', job_key(id, 'deaths'), index, 0)
      end
      wait_again(job, index)
      redis.call('HDEL', job_key(id, 'failed'), index)
    end
    if changed > 0 then
      if job.finished then skip_pause(job) end
      set(job, 'failed', job.failed - changed)
      unset(job, 'finished')
      redis.call('ZREM', DUE, id)
      forget_after(job, nil)
    end
  end
  if changed > 0 then
    audit(by, tenant, verb, id, verb == 'priority' and value or '')
    event(job)
    place(job)
  end
  return changed
end

local answered = answer_key(tenant, verb, id, once)
local before = once ~= '' and redis.call('GET', answered)
if before and verb ~= 'retry' then return tonumber(before) end
local job = owned(tenant, id) and load(id)
if not job then return false end
expect_to_control(tenant)
local tiles = {}
for _, part in ipairs(redis.call('SMEMBERS', job_key(id, 'parts'))) do tiles[#tiles + 1] = load(part) end

if verb == 'retry' then
  if job.cancelled then return 'cancelled' end
  local retried, left = string.match(before or '', '^(%d+) (%d+)$')
  retried, left = tonumber(retried or 0), tonumber(left or job.failed)
  if not before then
    for _, part in ipairs(tiles) do left = left + part.failed end
  end
  local share = math.min(SHARE, left)
  for _, part in ipairs(tiles) do
    if part.cancelled and part.finished then
      -- whoever claims the image makes its tiles anew, under the same ids
      redis.call('ZREM', DUE, part.id)
      redis.call('SREM', job_key(id, 'parts'), part.id)
      redis.call('UNLINK', job_key(part.id))
      forget(part.id)
    elseif not part.cancelled then
      share = share - control(part.id, part, share)
    end
  end
  local own = control(id, job, share)
  for _, part in ipairs(tiles) do
    if part.finished and not part.cancelled then let_go(part) end
  end
  share = share - own
  -- workers that are gone are not waited for
  left = share > 0 and 0 or left - math.min(SHARE, left)
  redis.call('SET', answered, retried + own .. ' ' .. left, 'PX', ANSWERS)
  return {retried + own, left}
end

for _, part in ipairs(tiles) do control(part.id, part) end
local changed = control(id, job)
if once ~= '' and changed ~= 'cancelled' then redis.call('SET', answered, changed, 'PX', ANSWERS) end
return changed
