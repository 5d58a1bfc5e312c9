-- Gives an image back unfinished, if this attempt is the current one. In trouble, it waits longer each time, then as long
-- again only for other workers, and fails if that has happened too often. Returns 0 if the attempt is not the current
-- one, 1 if the image waits again, 2 if it failed.
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
if awaited then -- the job of its tiles, which may have ended meanwhile
  local tiles = load(awaited)
  if not tiles or tiles.finished then delay = 0 end
end
hand_back(claim, delay)
return 1
