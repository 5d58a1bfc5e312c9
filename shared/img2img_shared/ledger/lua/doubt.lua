-- A worker could not do an image, though nothing else is wrong with it: another worker tries it, and its result decides.
-- Returns 0 if the attempt is not the current one, 1 if the image waits again, 2 if it failed.
local model, nonce, turn, reason = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
expect('zset', model_key(model, 'workers'))
local claim = drop(model, nonce)
if not claim then return 0 end
local job, index, worker = claim.job, claim.index, claim.worker
if not job.cancelled then
  local doubts, troubles, workers = job_key(job.id, 'doubts'), job_key(job.id, 'troubles'), model_key(model, 'workers')
  local doubted_by = hget(doubts, index)
  local tries = (trouble_with(hget(troubles, index)) or 0) + 1
  local others = redis.call('ZCOUNT', workers, NOW, '+inf')
  if tonumber(redis.call('ZSCORE', workers, worker) or '0') >= NOW then others = others - 1 end
  if tries >= TROUBLES or (doubted_by and doubted_by ~= worker) or others == 0 then
    fail(claim, reason)
    return 2
  end
  redis.call('HSET', doubts, index, worker)
  redis.call('HSET', troubles, index, string.format('%d %.0f %s', tries, NOW + turn * 2 ^ (tries - 1), worker))
end
hand_back(claim, 0)
return 1
