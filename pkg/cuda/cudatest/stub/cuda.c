// A stand-in for NVIDIA's CUDA driver. Memory is the host's, kernels compute
// nothing, and streams are clocks: what is put into one takes a time that the
// script sets. Package cudatest says what a script may have.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef int Result;
typedef uint64_t Ptr;

enum { OK = 0, INVALID = 1, NO_MEMORY = 2, NOT_STARTED = 3, NO_DEVICE = 100, BAD_DEVICE = 101, BAD_CONTEXT = 201, BAD_HANDLE = 400, NOT_FOUND = 500, NOT_READY = 600 };

static const struct { int code; const char *name, *text; } results[] = {
  {OK, "CUDA_SUCCESS", "no error"},
  {INVALID, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
  {NO_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
  {NOT_STARTED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
  {46, "CUDA_ERROR_DEVICE_UNAVAILABLE", "CUDA-capable device(s) is/are busy or unavailable"},
  {NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
  {BAD_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
  {BAD_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
  {218, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
  {222, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "the provided PTX was compiled with an unsupported toolchain."},
  {BAD_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
  {NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
  {NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
  {700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
  {719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
  {803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "system has unsupported display driver / cuda driver combination"},
  {999, "CUDA_ERROR_UNKNOWN", "unknown error"},
};
enum { KINDS = sizeof results / sizeof *results };

static int code_of(const char *name) {
  for (int i = 0; i < KINDS; i++)
    if (!strcmp(results[i].name, name)) return results[i].code;
  fprintf(stderr, "cuda stub: no error %s\n", name);
  exit(125);
}

// The script.

enum { MOST = 8 };
static struct gpu {
  char uuid[64], pci[32], name[96];
  double memory_mib, sms, major, minor, pools;
  int64_t used, pool_used, pool_reserved, threshold; // of memory, in bytes
  int lost;
} gpus[MOST];
static int count, version, visible[MOST], seen;
static char log_file[4096];
static struct fault { char call[64]; int code; long after; double at; } faults[32];
static int nfaults;
static struct cost { char kernel[64]; double us, block_us; } costs[64];
static int ncosts;
static struct flaw { char kernel[64]; int hangs, wrong; long after, n; } flaws[8];
static int nflaws;
static double launch_us;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static void script_path(char *path, size_t n) {
  const char *set = getenv("CUDA_STUB_SCRIPT");
  if (set) {
    snprintf(path, n, "%s", set);
    return;
  }
  Dl_info me;
  dladdr((void *)script_path, &me);
  snprintf(path, n, "%s", me.dli_fname);
  char *slash = strrchr(path, '/');
  snprintf(slash ? slash + 1 : path, n - (slash ? slash + 1 - path : 0), "cuda.script");
}

static struct timespec changed;
static ino_t file;
static int64_t read_at;

// read_script reads the script if it is new.
static void read_script(void) {
  char path[4096];
  script_path(path, sizeof path);
  struct stat s;
  if (stat(path, &s)) memset(&s, 0, sizeof s);
  if (count && s.st_ino == file && s.st_mtim.tv_sec == changed.tv_sec && s.st_mtim.tv_nsec == changed.tv_nsec) return;
  file = s.st_ino, changed = s.st_mtim, read_at = now();
  if (!count)
    for (int i = 0; i < MOST; i++) {
      struct gpu *g = &gpus[i];
      snprintf(g->uuid, sizeof g->uuid, "GPU-0000000%d-1111-2222-3333-444444444444", i);
      snprintf(g->pci, sizeof g->pci, "0000:0%d:00.0", i + 1);
      snprintf(g->name, sizeof g->name, "NVIDIA H200");
      g->memory_mib = 143771, g->sms = 132, g->major = 9, g->pools = 1;
    }
  count = 1, version = 13000, nfaults = ncosts = nflaws = 0, launch_us = 100, log_file[0] = 0;
  FILE *f = fopen(path, "r");
  char line[4096];
  while (f && fgets(line, sizeof line, f)) {
    char key[64], a[64] = "", rest[3900] = "", word[3900] = "";
    if (sscanf(line, " %63[^ #\n]", key) != 1) continue;
    int i, pos = 0;
    double x, at = 0;
    char *l = line;
    if (sscanf(line, " @%lf %n", &at, &pos) == 1 && pos) l = line + pos, sscanf(l, "%63s", key);
    if (sscanf(l, " gpus %d", &i) == 1 && i >= 0 && i <= MOST) count = i ? i : -1;
    else if (sscanf(l, " version %d", &i) == 1) version = i;
    else if (sscanf(l, " launch_us %lf", &x) == 1) launch_us = x;
    else if (sscanf(l, " kernel_us %63s %lf", a, &x) == 2 && ncosts < 64) {
      struct cost *c = &costs[ncosts++];
      snprintf(c->kernel, sizeof c->kernel, "%s", a), c->us = x, c->block_us = 0;
    } else if (sscanf(l, " block_us %63s %lf", a, &x) == 2 && ncosts < 64) {
      struct cost *c = &costs[ncosts++];
      snprintf(c->kernel, sizeof c->kernel, "%s", a), c->us = 0, c->block_us = x;
    } else if ((sscanf(l, " hang %63s", a) == 1 || sscanf(l, " wrong %63s", a) == 1) && nflaws < 8) {
      struct flaw *w = &flaws[nflaws++];
      snprintf(w->kernel, sizeof w->kernel, "%s", a), w->hangs = !strcmp(key, "hang"), w->wrong = !w->hangs, w->after = w->n = 0;
      sscanf(l, " %*s %*s after %ld", &w->after);
    } else if (sscanf(l, " log %3899s", word) == 1) snprintf(log_file, sizeof log_file, "%s", word);
    else if (sscanf(l, " error %63s %3899s", a, word) == 2 && nfaults < 32) {
      struct fault *e = &faults[nfaults++];
      snprintf(e->call, sizeof e->call, "%s", a), e->code = code_of(word), e->after = 0, e->at = at;
      sscanf(l, " error %*s %*s after %ld", &e->after);
    } else if (sscanf(l, " %63s %d %3899[^\n]", key, &i, rest) == 3 && i >= 0 && i < MOST) {
      struct gpu *g = &gpus[i];
      x = atof(rest);
      if (!strcmp(key, "uuid")) snprintf(g->uuid, sizeof g->uuid, "%.63s", rest);
      else if (!strcmp(key, "pci")) snprintf(g->pci, sizeof g->pci, "%.31s", rest);
      else if (!strcmp(key, "name")) snprintf(g->name, sizeof g->name, "%.95s", rest);
      else if (!strcmp(key, "memory_mib")) g->memory_mib = x;
      else if (!strcmp(key, "sms")) g->sms = x;
      else if (!strcmp(key, "pools")) g->pools = x;
      else if (!strcmp(key, "capability")) sscanf(rest, "%lf %lf", &g->major, &g->minor);
      else goto wrong;
    } else {
    wrong:
      fprintf(stderr, "cuda stub: %s: cannot read: %s", path, line);
      exit(125);
    }
  }
  if (f) fclose(f);
}

static void note(const char *format, ...) {
  if (!log_file[0]) return;
  char line[512];
  va_list args;
  va_start(args, format);
  int n = vsnprintf(line, sizeof line, format, args);
  va_end(args);
  int fd = open(log_file, O_WRONLY | O_CREAT | O_APPEND, 0644);
  if (fd < 0 || write(fd, line, n) != n) exit(125);
  close(fd);
}

static struct tally { char call[64]; long n; } tallies[64];
static int started;

// enter begins a call: it is counted, and what the script has for it comes back.
// The lock is held after it.
static Result enter(const char *call, int needs_start) {
  pthread_mutex_lock(&lock);
  read_script();
  struct tally *t = tallies;
  while (t->call[0] && strcmp(t->call, call)) t++;
  snprintf(t->call, sizeof t->call, "%s", call);
  t->n++;
  if (strcmp(call, "cuLaunchKernel") && strcmp(call, "cuEventQuery")) note("%s\n", call);
  for (int i = 0; i < nfaults; i++)
    if ((!strcmp(faults[i].call, call) || !strcmp(faults[i].call, "*")) && t->n > faults[i].after && now() - read_at >= faults[i].at * 1e9)
      return faults[i].code;
  return needs_start && !started ? NOT_STARTED : OK;
}

static Result leave(Result r) {
  pthread_mutex_unlock(&lock);
  return r;
}

#define ENTER_AS(name, start) do { Result r_ = enter(name, start); if (r_) return leave(r_); } while (0)
#define ENTER ENTER_AS(__func__, 1)

// Driver and devices.

static __thread int current = -1; // device whose context is current, −1 for none
static int retained[MOST];

#define ENTER_CONTEXT do { ENTER; if (current < 0) return leave(BAD_CONTEXT); } while (0)

Result cuGetErrorName(Result code, const char **s) {
  for (int i = 0; i < KINDS; i++)
    if (results[i].code == code) return *s = results[i].name, OK;
  return *s = NULL, INVALID;
}

Result cuGetErrorString(Result code, const char **s) {
  for (int i = 0; i < KINDS; i++)
    if (results[i].code == code) return *s = results[i].text, OK;
  return *s = NULL, INVALID;
}

Result cuInit(unsigned flags) {
  ENTER_AS(__func__, 0);
  // CUDA_VISIBLE_DEVICES is a list that ends at what is no device.
  seen = 0;
  const char *list = getenv("CUDA_VISIBLE_DEVICES");
  if (!list)
    for (int i = 0; i < count; i++) visible[seen++] = i;
  char copy[512], *save = NULL;
  snprintf(copy, sizeof copy, "%s", list ? list : "");
  for (char *w = strtok_r(copy, ",", &save); w; w = strtok_r(NULL, ",", &save)) {
    int i = 0;
    char *end;
    if (!strncmp(w, "GPU-", 4)) while (i < count && strncmp(gpus[i].uuid, w, strlen(w))) i++;
    else if (i = strtol(w, &end, 10), end == w || *end) i = -1;
    if (i < 0 || i >= count || seen == MOST) break;
    visible[seen++] = i;
  }
  if (!seen) return leave(NO_DEVICE);
  started = 1;
  return leave(OK);
}

Result cuDriverGetVersion(int *v) { ENTER_AS(__func__, 0); *v = version; return leave(OK); }
Result cuDeviceGetCount(int *n) { ENTER; *n = seen; return leave(OK); }

Result cuDeviceGet(int *dev, int ordinal) {
  ENTER;
  if (ordinal < 0 || ordinal >= seen) return leave(BAD_DEVICE);
  *dev = visible[ordinal];
  return leave(OK);
}

Result cuDeviceGetName(char *s, int n, int dev) { ENTER; snprintf(s, n, "%s", gpus[dev].name); return leave(OK); }
Result cuDeviceTotalMem_v2(size_t *n, int dev) { ENTER; *n = gpus[dev].memory_mib * 1048576; return leave(OK); }
Result cuDeviceGetPCIBusId(char *s, int n, int dev) { ENTER; snprintf(s, n, "%s", gpus[dev].pci); return leave(OK); }

Result cuDeviceGetAttribute(int *v, int attribute, int dev) {
  ENTER;
  struct gpu *g = &gpus[dev];
  switch (attribute) {
  case 16: *v = g->sms; return leave(OK);
  case 75: *v = g->major; return leave(OK);
  case 76: *v = g->minor; return leave(OK);
  case 115: *v = g->pools; return leave(OK);
  }
  return leave(INVALID);
}

static void uuid(unsigned char *id, int dev) {
  const char *s = gpus[dev].uuid + 4;
  for (int i = 0; i < 16; i++, s += 2) {
    s += *s == '-';
    char byte[3] = {s[0], s[1], 0};
    id[i] = strtol(byte, NULL, 16);
  }
}

Result cuDeviceGetUuid(unsigned char *id, int dev) { ENTER; uuid(id, dev); return leave(OK); }
Result cuDeviceGetUuid_v2(unsigned char *id, int dev) { ENTER; uuid(id, dev); return leave(OK); }

Result cuDevicePrimaryCtxRetain(void **c, int dev) {
  ENTER;
  retained[dev]++;
  *c = (void *)(intptr_t)(dev + 1);
  return leave(OK);
}

Result cuDevicePrimaryCtxRelease_v2(int dev) {
  ENTER;
  if (!retained[dev]) return leave(BAD_CONTEXT);
  if (!--retained[dev]) gpus[dev].used = gpus[dev].pool_used = gpus[dev].pool_reserved = 0;
  return leave(OK);
}

Result cuCtxSetCurrent(void *c) {
  ENTER;
  int dev = (int)(intptr_t)c - 1;
  if (dev >= 0 && (dev >= MOST || !retained[dev])) return leave(BAD_CONTEXT);
  current = dev;
  return leave(OK);
}

// Streams: until when each of them is busy, and what a graph under capture takes.

struct stream { int dev, capturing; int64_t until, captured; };
static struct stream defaults[MOST];
struct event { int64_t at; };
struct graph { int64_t ns; };
struct function { char name[64]; };

static struct stream *stream(void *s) { return s ? s : &defaults[current]; }

// put puts something of that length into a stream.
static int64_t put(struct stream *s, int64_t ns) {
  if (s->capturing) return s->captured += ns;
  int64_t from = now();
  if (s->until > from) from = s->until;
  return s->until = from + ns;
}

// wait_until is called without the lock.
static void wait_until(int64_t at) {
  struct timespec t = {at / 1000000000, at % 1000000000};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR);
}

Result cuStreamCreate(void **s, unsigned flags) {
  ENTER_CONTEXT;
  struct stream *made = calloc(1, sizeof *made);
  made->dev = current;
  *s = made;
  return leave(OK);
}

Result cuStreamDestroy_v2(void *s) { ENTER_CONTEXT; free(s); return leave(OK); }

static void trim(struct gpu *g, int64_t keep) {
  if (g->pool_reserved > keep) g->pool_reserved = keep > g->pool_used ? keep : g->pool_used;
}

Result cuStreamSynchronize(void *s) {
  ENTER_CONTEXT;
  int64_t until = stream(s)->until;
  trim(&gpus[current], gpus[current].threshold);
  leave(OK);
  wait_until(until);
  return OK;
}

Result cuCtxSynchronize(void) { ENTER_CONTEXT; int64_t until = defaults[current].until; leave(OK); wait_until(until); return OK; }

Result cuEventCreate(void **e, unsigned flags) { ENTER_CONTEXT; *e = calloc(1, sizeof(struct event)); return leave(OK); }
Result cuEventDestroy_v2(void *e) { ENTER_CONTEXT; free(e); return leave(OK); }

Result cuEventRecord(struct event *e, void *s) {
  ENTER_CONTEXT;
  e->at = put(stream(s), 0);
  return leave(OK);
}

Result cuEventQuery(struct event *e) { ENTER_CONTEXT; return leave(now() >= e->at ? OK : NOT_READY); }

Result cuEventElapsedTime(float *ms, struct event *a, struct event *b) {
  ENTER_CONTEXT;
  if (!a->at || !b->at) return leave(BAD_HANDLE);
  if (now() < a->at || now() < b->at) return leave(NOT_READY);
  *ms = (b->at - a->at) / 1e6;
  return leave(OK);
}

// Memory.

static void forget(Ptr at, int64_t bytes);
static void wrote(Ptr at, int64_t bytes);
static int known(Ptr at);
static float number_at(Ptr at, int width);

enum { GRAIN = 512 };

static int64_t room(struct gpu *g) { return (int64_t)(g->memory_mib * 1048576) - g->used - g->pool_reserved; }

// sizes of what is allocated: kept in the page before it.
static Ptr take(int64_t bytes) {
  char *p = mmap(NULL, bytes + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return 0;
  *(int64_t *)p = bytes;
  return (Ptr)(uintptr_t)(p + 4096);
}

static int64_t give(Ptr at) {
  char *p = (char *)(uintptr_t)at - 4096;
  int64_t bytes = *(int64_t *)p;
  forget(at, bytes);
  munmap(p, bytes + 4096);
  return bytes;
}

Result cuMemAlloc_v2(Ptr *p, size_t bytes) {
  ENTER_CONTEXT;
  struct gpu *g = &gpus[current];
  if (!bytes) return leave(INVALID);
  bytes = (bytes + GRAIN - 1) / GRAIN * GRAIN;
  if ((int64_t)bytes > room(g) || !(*p = take(bytes))) return leave(NO_MEMORY);
  g->used += bytes;
  return leave(OK);
}

Result cuMemFree_v2(Ptr p) {
  ENTER_CONTEXT;
  if (p) gpus[current].used -= give(p);
  return leave(OK);
}

Result cuMemGetInfo_v2(size_t *free, size_t *total) {
  ENTER_CONTEXT;
  *free = room(&gpus[current]);
  *total = gpus[current].memory_mib * 1048576;
  return leave(OK);
}

Result cuDeviceGetDefaultMemPool(void **pool, int dev) { ENTER; *pool = &gpus[dev]; return leave(OK); }

Result cuMemAllocAsync(Ptr *p, size_t bytes, void *s) {
  ENTER_CONTEXT;
  struct gpu *g = &gpus[current];
  bytes = (bytes + GRAIN - 1) / GRAIN * GRAIN;
  int64_t more = g->pool_used + (int64_t)bytes - g->pool_reserved;
  if (more > room(g) || !(*p = take(bytes))) return leave(NO_MEMORY);
  if (more > 0) g->pool_reserved += more;
  g->pool_used += bytes;
  return leave(OK);
}

Result cuMemFreeAsync(Ptr p, void *s) { ENTER_CONTEXT; gpus[current].pool_used -= give(p); return leave(OK); }

Result cuMemPoolGetAttribute(struct gpu *g, int attribute, int64_t *v) {
  ENTER;
  switch (attribute) {
  case 5: *v = g->pool_reserved; return leave(OK);
  case 7: *v = g->pool_used; return leave(OK);
  }
  return leave(INVALID);
}

Result cuMemPoolSetAttribute(struct gpu *g, int attribute, int64_t *v) {
  ENTER;
  if (attribute != 4) return leave(INVALID);
  g->threshold = *v;
  return leave(OK);
}

Result cuMemPoolTrimTo(struct gpu *g, size_t keep) { ENTER; trim(g, keep); return leave(OK); }

Result cuMemcpyHtoD_v2(Ptr to, const void *from, size_t n) { ENTER_CONTEXT; wrote(to, n); memcpy((void *)(uintptr_t)to, from, n); return leave(OK); }
Result cuMemcpyDtoH_v2(void *to, Ptr from, size_t n) {
  ENTER_CONTEXT;
  int width = known(from);
  if (!width) memcpy(to, (void *)(uintptr_t)from, n);
  for (size_t i = 0; width && i + width <= n; i += width) {
    float v = number_at(from + i, width);
    memcpy((char *)to + i, (char *)&v + 4 - width, width);
  }
  return leave(OK);
}

Result cuMemcpyDtoDAsync_v2(Ptr to, Ptr from, size_t n, void *s) {
  ENTER_CONTEXT;
  if (!stream(s)->capturing) memcpy((void *)(uintptr_t)to, (void *)(uintptr_t)from, n);
  put(stream(s), n / 4); // 4 GB/s … of a nanosecond each 4 bytes
  return leave(OK);
}

Result cuMemsetD8_v2(Ptr to, unsigned char v, size_t n) {
  ENTER_CONTEXT;
  wrote(to, n);
  if (v || to % 4096 || n % 4096 || madvise((void *)(uintptr_t)to, n, MADV_DONTNEED)) memset((void *)(uintptr_t)to, v, n);
  return leave(OK);
}

// Kernels. What they leave is not computed before somebody looks: a place in memory
// knows of what it is the result.

enum { BYTES, FILL, COPY, PRODUCT, PRODUCT_TURNED };
static struct place {
  Ptr at, a, b;
  int64_t bytes;
  int what, width, n, k, wrong; // bytes of a number, numbers of a row, and along the sum
  uint64_t seed;
  float half_width;
} places[256];
static int nplaces;

// forget drops what is known of memory that is written.
static void forget(Ptr at, int64_t bytes) {
  int kept = 0;
  for (int i = 0; i < nplaces; i++)
    if (places[i].at < at || places[i].at + places[i].bytes > at + bytes) places[kept++] = places[i];
  nplaces = kept;
}

static void know(struct place p) {
  forget(p.at, p.bytes);
  if (nplaces == 256) memmove(places, places + 1, --nplaces * sizeof *places);
  places[nplaces++] = p;
}

// wrote is that memory has bytes of its own.
static void wrote(Ptr at, int64_t bytes) { know((struct place){.at = at, .bytes = bytes}); }

static float rounded(float v, int width) {
  if (width == 4) return v;
  uint32_t bits;
  memcpy(&bits, &v, 4);
  bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000;
  memcpy(&v, &bits, 4);
  return v;
}

// number_at is the number at a place of the GPU's memory.
static float number_at(Ptr at, int width) {
  for (int i = nplaces - 1; i >= 0; i--) {
    struct place *p = &places[i];
    if (at < p->at || at >= p->at + p->bytes) continue;
    if (p->what == BYTES) break;
    int64_t e = (at - p->at) / width;
    double sum = 0;
    uint64_t z;
    switch (p->what) {
    case FILL:
      z = p->seed + (uint64_t)(e + 1) * 0x9E3779B97F4A7C15ull;
      z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull, z = (z ^ z >> 27) * 0x94D049BB133111EBull, z ^= z >> 31;
      return rounded((2 * ((float)(uint32_t)(z >> 40) * 0x1p-24f) - 1) * p->half_width, width);
    case COPY:
      return number_at(p->a + (at - p->at), width) + p->wrong;
    case PRODUCT:
      for (int k = 0; k < p->k; k++) sum += (double)number_at(p->a + (e / p->n * p->k + k) * width, width) * number_at(p->b + ((int64_t)k * p->n + e % p->n) * width, width);
      return sum + p->wrong;
    case PRODUCT_TURNED:
      for (int k = 0; k < p->k; k++) sum += (double)number_at(p->a + (e / p->n * p->k + k) * width, width) * number_at(p->b + (e % p->n * p->k + k) * width, width);
      return rounded(sum + p->wrong, width);
    }
  }
  float v = 0;
  memcpy((char *)&v + 4 - width, (void *)(uintptr_t)at, width);
  return v;
}

// known says whether memory is the result of something, and how wide its numbers
// are.
static int known(Ptr at) {
  for (int i = nplaces - 1; i >= 0; i--)
    if (at >= places[i].at && at < places[i].at + places[i].bytes) return places[i].width;
  return 0;
}

// flawed says what the script has against this launch of a kernel.
static struct flaw flawed(const char *kernel) {
  struct flaw all = {0};
  for (int i = 0; i < nflaws; i++)
    if (!strcmp(flaws[i].kernel, kernel) && flaws[i].n++ >= flaws[i].after) all.hangs |= flaws[i].hangs, all.wrong |= flaws[i].wrong;
  return all;
}

static Ptr pointer(void *arg) { return *(Ptr *)arg; }
static int number(void *arg) { return *(int *)arg; }

static void result(const char *kernel, unsigned blocks, void **args, int wrong) {
  struct place p = {.at = pointer(args[0]), .wrong = wrong};
  int turned = !strncmp(kernel, "gemm_bf16", 9);
  if (!strcmp(kernel, "fill_uniform_f32") || !strcmp(kernel, "fill_uniform_bf16")) {
    p.what = FILL, p.width = strstr(kernel, "bf16") ? 2 : 4, p.bytes = *(int64_t *)args[1] * p.width;
    p.seed = *(uint64_t *)args[2], p.half_width = *(float *)args[3];
  } else if (!strcmp(kernel, "copy")) {
    p.what = COPY, p.width = 4, p.a = pointer(args[1]), p.bytes = *(int64_t *)args[2] * 16;
  } else if (!strcmp(kernel, "matmul_f32")) {
    p.what = PRODUCT, p.width = 4, p.a = pointer(args[1]), p.b = pointer(args[2]), p.n = p.k = number(args[3]);
    p.bytes = (int64_t)blocks / (p.n / 128) * 128 * p.n * 4;
  } else if (turned) {
    p.what = PRODUCT_TURNED, p.width = 2, p.a = pointer(args[2]), p.b = pointer(args[3]), p.n = number(args[6]), p.k = number(args[7]);
    p.bytes = (int64_t)number(args[5]) * p.n * 2;
  } else
    return;
  know(p);
}

Result cuModuleLoadDataEx(void **m, const void *image, unsigned n, int *options, void **values) {
  Result r = enter(__func__, 1);
  if (r)
    for (unsigned i = 0; i + 1 < n; i++)
      if (options[i] == 5 && options[i + 1] == 6) snprintf(values[i], (size_t)(uintptr_t)values[i + 1], "ptxas of the stub: %s\n", r == 222 ? "Unsupported .version" : "no");
  if (!r && current < 0) r = BAD_CONTEXT;
  if (!r) *m = strdup(image);
  return leave(r);
}

Result cuModuleUnload(void *m) { ENTER_CONTEXT; free(m); return leave(OK); }

Result cuModuleGetFunction(struct function **f, const char *ptx, const char *name) {
  ENTER_CONTEXT;
  char entry[128];
  snprintf(entry, sizeof entry, ".entry %s(", name);
  if (!strstr(ptx, entry)) return leave(NOT_FOUND);
  *f = calloc(1, sizeof **f);
  snprintf((*f)->name, sizeof (*f)->name, "%s", name);
  return leave(OK);
}

Result cuFuncSetAttribute(void *f, int attribute, int v) { ENTER_CONTEXT; return leave(attribute == 8 ? OK : INVALID); }

Result cuLaunchKernel(struct function *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                      unsigned shared, void *s, void **args, void **more) {
  ENTER_CONTEXT;
  if (!gx || !gy || !gz || !bx || !by || !bz || bx * by * bz > 1024) return leave(INVALID);
  double us = launch_us;
  for (int i = 0; i < ncosts; i++)
    if (!strcmp(costs[i].kernel, f->name)) us = costs[i].us + costs[i].block_us * gx;
  struct flaw flaw = flawed(f->name);
  int64_t ns = us * 1000, end = put(stream(s), ns);
  if (flaw.hangs) stream(s)->until = INT64_MAX / 2;
  if (args && !stream(s)->capturing) result(f->name, gx, args, flaw.wrong);
  if (stream(s)->capturing) note("%s %d %s captured\n", __func__, current, f->name);
  else note("%s %d %s %lld %lld\n", __func__, current, f->name, (long long)(end - ns), (long long)end);
  return leave(OK);
}

// Graphs.

Result cuStreamBeginCapture_v2(struct stream *s, int mode) {
  ENTER_CONTEXT;
  s->capturing = 1, s->captured = 0;
  return leave(OK);
}

Result cuStreamEndCapture(struct stream *s, struct graph **g) {
  ENTER_CONTEXT;
  if (!s->capturing) return leave(INVALID);
  s->capturing = 0;
  *g = malloc(sizeof **g);
  (*g)->ns = s->captured;
  return leave(OK);
}

Result cuGraphInstantiateWithFlags(struct graph **exec, struct graph *g, unsigned long long flags) {
  ENTER_CONTEXT;
  *exec = malloc(sizeof **exec);
  **exec = *g;
  return leave(OK);
}

Result cuGraphLaunch(struct graph *g, void *s) {
  ENTER_CONTEXT;
  put(stream(s), g->ns);
  if (flawed("graph").hangs) stream(s)->until = INT64_MAX / 2;
  return leave(OK);
}
Result cuGraphExecDestroy(struct graph *g) { ENTER_CONTEXT; free(g); return leave(OK); }
Result cuGraphDestroy(struct graph *g) { ENTER_CONTEXT; free(g); return leave(OK); }

// cuBLAS, as much as package cuda calls: 0 is done, 3 no memory.

static void *blas_stream;

Result cublasCreate_v2(void **handle) { ENTER_CONTEXT; *handle = &blas_stream; return leave(OK); }
Result cublasDestroy_v2(void *handle) { ENTER_CONTEXT; return leave(OK); }
Result cublasSetStream_v2(void *handle, void *s) { ENTER_CONTEXT; blas_stream = s; return leave(OK); }
Result cublasSetWorkspace_v2(void *handle, Ptr p, size_t n) { ENTER_CONTEXT; return leave(p ? OK : 7); }

Result cublasGemmEx(void *handle, int ta, int tb, int m, int n, int k, const float *alpha, Ptr a, int at, int lda, Ptr b, int bt, int ldb,
                    const float *beta, Ptr c, int ct, int ldc, int compute, int algorithm) {
  ENTER_CONTEXT;
  note("%s %d %d %d %d %d alpha %g type %d lda %d %d ldb %d beta %g ldc %d compute %d algorithm %d\n", __func__,
       ta, tb, m, n, k, *alpha, at, lda, bt, ldb, *beta, ldc, compute, algorithm);
  struct flaw flaw = flawed(__func__);
  double us = launch_us;
  for (int i = 0; i < ncosts; i++)
    if (!strcmp(costs[i].kernel, __func__)) us = costs[i].us + costs[i].block_us * m * n / 128 / 256;
  put(stream(blas_stream), us * 1000);
  if (flaw.hangs) stream(blas_stream)->until = INT64_MAX / 2;
  if (at == 14 && !stream(blas_stream)->capturing)
    know((struct place){.at = c, .a = b, .b = a, .bytes = (int64_t)m * n * 2, .what = PRODUCT_TURNED, .width = 2, .n = m, .k = k, .wrong = flaw.wrong});
  return leave(OK);
}
