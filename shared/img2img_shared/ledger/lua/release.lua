-- An image is given back unfinished, if this attempt at it is the current one. In trouble, it waits longer each time,
-- then as long again for another worker than this one; and fails when that was too often. Gives 0 when the
-- attempt is not the current one, 1 when the image waits again, 2 when it failed.
local model, nonce, delay, trouble, awaited = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local claim = drop(model, nonce)
if not claim then return 0 end
if trouble ~= '' and not claim.job.cancelled then
  local troubles = job_key(claim.job.id, 'troubles')
  local tries = (trouble_with(hget(troubles, claim.index)) or 0) + 1
  if tries >= TROUBLES then
    fail(claim, tries .. ' tries; the last: ' .. trouble)
    return 2
  end
  delay = delay * 2 ^ (tries - 1)
  redis.call('HSET', troubles, claim.index, string.format('%d %.0f %s', tries, NOW + 2 * delay, claim.worker))
end
if awaited then -- a job of its tiles, which may have ended meanwhile
  local tiles = load(awaited)
  if not tiles or tiles.finished then delay = 0 end
end
hand_back(claim, delay)
return 1
