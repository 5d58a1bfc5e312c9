/** Every text of the page, by view. What the gateway says (refusals, states of its jobs) comes as it is. */
export const app = {
  name: "img2img farm",
  skip: "Skip to content",
  navigation: "Views",
  queue: "Queue",
  workers: "Workers",
  reference: "API",
  referenceTitle: "Reference of the API",
  light: "Light",
  dark: "Dark",
  theme: (next) => `Switch to ${next} colours`,
  signOut: "Sign out",
  signedInAs: (who) => `Signed in as ${who}`,
  missing: "There is no such page",
  missingHelp: "The address may have been mistyped.",
  toQueue: "Go to the queue",
  loading: "Loading…",
  retry: "Try again",
  close: "Close",
  cancel: "Cancel",
  dismiss: "Dismiss",
};

export const errors = {
  away: "The gateway does not answer. Is it running, and is this machine online?",
  status: (status) => `The gateway answered with status ${status}.`,
  crashed: "This view has failed",
};

export const signIn = {
  title: "Sign in",
  help: "This farm asks for a key. Who runs it makes one with: img2img key create NAME",
  key: "API key",
  keyHelp: "Or user:password, where the gateway was started with --api-auth.",
  submit: "Sign in",
  unknown: "No key or password that is known here.",
};

export const states = {
  pending: "Waiting",
  running: "Running",
  paused: "Paused",
  done: "Done",
  failed: "Failed",
  cancelled: "Cancelled",
};

export const queue = {
  title: "Queue",
  list: "Jobs",
  none: "No jobs yet",
  noneHelp: "Send pictures from the studio, or from a shell: img2img submit photos/ --prompt \"an oil painting\"",
  unnamed: (id) => `Job ${id.slice(0, 8)}`,
  progress: (name) => `Progress of ${name}`,
  counts: (done, n) => `${done} of ${n}`,
  failed: (n) => `${n} failed`,
  rate: (perMinute) => `${perMinute} a minute`,
  eta: (time) => `${time} left`,
};

export const workers = {
  title: "Workers",
  none: "No worker lives",
  noneHelp: "Jobs wait until one is started: img2img worker --model NAME",
  model: "Model",
  device: "Device",
  speed: "Speed",
  running: "In hand",
  memory: "Memory",
};
