/** The states that the gateway tells of jobs and of images. */

/** Of jobs that have not ended. */
export const ACTIVE = ["running", "paused", "pending"];
/** Of jobs and images that have ended. */
export const ENDED = ["done", "failed", "cancelled"];
/** Of images; a job's images are kept as indices into it. */
export const IMAGE_STATES = ["pending", "running", ...ENDED];
