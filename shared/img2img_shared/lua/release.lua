-- An image is given back unfinished, if this attempt at it is the current one. In trouble, it waits longer each time,
-- and fails when that was so often that it must be the image's own fault.
local model, nonce, delay, trouble = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local claim = drop(model, nonce)
if not claim then return 0 end
if trouble ~= '' and not hget(job_key(claim.job), 'cancelled') then
  local tries = redis.call('HINCRBY', job_key(claim.job, 'troubles'), claim.index, 1)
  if tries >= TROUBLES then
    fail(claim, tries .. ' tries; the last: ' .. trouble)
    return 1
  end
  delay = delay * 2 ^ (tries - 1)
end
hand_back(model, claim, delay)
return 1
