// A stand-in for libnvidia-ml.so.1 whose answers come from a script; see the
// documentation of package nvmltest for its language.

#define _GNU_SOURCE
#define NVML_NO_UNVERSIONED_FUNC_DEFS 1
#include "nvml.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define EXPORT __attribute__((visibility("default")))
#define MAX_GPUS 16
#define MAX_LINES 512
#define ANY (-1)

// What holds where the script says nothing.
static const char defaults[] =
    "gpus 1\n"
    "driver 580.159.04\n"
    "cuda 13000\n"
    "name * NVIDIA H200\n"
    "arch * 9\n"
    "limit_mw * 700000\n"
    "default_limit_mw * 700000\n"
    "slowdown_c * 89\n"
    "shutdown_c * 95\n"
    "vram_total_mib * 143771\n"
    "mig * 0\n"
    "persistence * 1\n"
    "power_mw * 79000\n"
    "temp_c * 31\n"
    "mem_temp_c * 35\n"
    "sm_mhz * 345\n"
    "mem_mhz * 3201\n"
    "util_gpu * 0\n"
    "util_mem * 0\n"
    "vram_used_mib * 0\n"
    "reasons * 1\n"
    "pstate * 0\n"
    "energy_mj * 2302619\n"
    "gpm_supported * 1\n"
    "samples * realtime 20 119\n"
    "processes * realtime 100\n";

struct line {
    double from;     // seconds after the script was read
    char key[24];    // first word
    char name[64];   // function of an error or delay line
    int gpu;         // or ANY
    char text[PATH_MAX];
};

// All below is under the lock.
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct line lines[MAX_LINES];
static int line_count;
static struct stat script_stat;
static int script_known, script_static;
static double script_time;
static int inits;
static int was_lost[MAX_GPUS];
static unsigned generation[MAX_GPUS]; // grows when the GPU is lost

struct nvmlDevice_st {
    int gpu;
    unsigned generation;
};
static struct nvmlDevice_st handles[MAX_GPUS][64];

struct nvmlGpmSample_st {
    int gpu;
    double at;
};

static double seconds(clockid_t clock) {
    struct timespec ts;
    clock_gettime(clock, &ts);
    return ts.tv_sec + ts.tv_nsec / 1e9;
}

static void die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("nvml stub: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    abort();
}

static int has_gpu(const char *key) {
    return strcmp(key, "gpus") && strcmp(key, "driver") && strcmp(key, "cuda") &&
           strcmp(key, "log") && strcmp(key, "static");
}

static void parse(const char *text) {
    char buf[PATH_MAX + 128];
    while (*text) {
        size_t n = strcspn(text, "\n");
        if (n >= sizeof buf) die("line too long");
        memcpy(buf, text, n);
        buf[n] = 0;
        text += n + (text[n] == '\n');
        char *hash = strchr(buf, '#');
        if (hash) *hash = 0;

        char *save, *word = strtok_r(buf, " \t\r", &save);
        if (!word) continue;
        if (line_count == MAX_LINES) die("more than %d lines", MAX_LINES);
        struct line *l = &lines[line_count];
        memset(l, 0, sizeof *l);
        l->gpu = ANY;
        if (*word == '@') {
            l->from = atof(word + 1);
            word = strtok_r(NULL, " \t\r", &save);
            if (!word) die("a time without a line");
        }
        if (strlen(word) >= sizeof l->key) die("unknown key %s", word);
        strcpy(l->key, word);
        if (!strcmp(l->key, "error") || !strcmp(l->key, "delay_ms")) {
            word = strtok_r(NULL, " \t\r", &save);
            if (!word || strlen(word) >= sizeof l->name) die("%s without a function", l->key);
            strcpy(l->name, word);
        }
        if (has_gpu(l->key)) {
            char *end;
            word = strtok_r(NULL, " \t\r", &save);
            if (!word) die("%s without a GPU", l->key);
            l->gpu = strcmp(word, "*") ? (int)strtol(word, &end, 10) : ANY;
            if (l->gpu != ANY && (*end || l->gpu < 0 || l->gpu >= MAX_GPUS)) die("%s: no GPU %s", l->key, word);
        }
        if (!strcmp(l->key, "static")) script_static = 1;
        word = strtok_r(NULL, "", &save);
        if (word) strcpy(l->text, word + strspn(word, " \t"));
        for (n = strlen(l->text); n && strchr(" \t\r", l->text[n - 1]);) l->text[--n] = 0;
        line_count++;
    }
}

static const char *script_path(void) {
    static char beside[PATH_MAX];
    const char *env = getenv("NVML_STUB_SCRIPT");
    if (env && *env) return env;
    Dl_info info;
    if (!*beside && dladdr(&lines, &info)) {
        const char *slash = strrchr(info.dli_fname, '/');
        int n = slash ? (int)(slash - info.dli_fname) + 1 : 0;
        snprintf(beside, sizeof beside, "%.*snvml.script", n, info.dli_fname);
    }
    return beside;
}

// refresh reads the script if it is not the one that was read last.
static void refresh(void) {
    struct stat now;
    if (script_known && script_static) return;
    const char *path = script_path();
    if (stat(path, &now)) memset(&now, 0, sizeof now);
    if (script_known && now.st_ino == script_stat.st_ino && now.st_dev == script_stat.st_dev &&
        now.st_size == script_stat.st_size && now.st_mtim.tv_sec == script_stat.st_mtim.tv_sec &&
        now.st_mtim.tv_nsec == script_stat.st_mtim.tv_nsec)
        return;
    script_known = 1;
    script_static = 0;
    script_stat = now;
    script_time = seconds(CLOCK_MONOTONIC);
    line_count = 0;
    parse(defaults);
    FILE *f = now.st_ino ? fopen(path, "r") : NULL;
    if (!f) return;
    char *text = malloc(now.st_size + 1);
    size_t n = fread(text, 1, now.st_size, f);
    fclose(f);
    text[n] = 0;
    parse(text);
    free(text);
}

// clock_named is the clock that a line of that key names.
static clockid_t clock_named(const char *clock, const char *key) {
    if (!strcmp(clock, "boottime")) return CLOCK_BOOTTIME;
    if (!strcmp(clock, "monotonic")) return CLOCK_MONOTONIC;
    if (strcmp(clock, "realtime")) die("%s: no clock %s", key, clock);
    return CLOCK_REALTIME;
}

// find is the last line that holds now.
static struct line *find(const char *key, const char *name, int gpu) {
    double t = -1;
    for (int i = line_count - 1; i >= 0; i--) {
        struct line *l = &lines[i];
        if (strcmp(l->key, key) || (name && strcmp(l->name, name))) continue;
        if (l->gpu != ANY && gpu != ANY && l->gpu != gpu) continue;
        if (l->from > 0) {
            if (t < 0) t = seconds(CLOCK_MONOTONIC) - script_time;
            if (l->from > t) continue;
        }
        return l;
    }
    return NULL;
}

// number is the value of a line some seconds ago.
static double number(const struct line *l, double age) {
    double from, to, span;
    char rest;
    int n = sscanf(l->text, "%lf %lf %lf %c", &from, &to, &span, &rest);
    if (n == 1) return from;
    if (n != 3 || span <= 0) die("%s: not a number or a ramp: %s", l->key, l->text);
    double t = seconds(CLOCK_MONOTONIC) - age - script_time - l->from;
    if (t < 0) t = 0;
    return t >= span ? to : from + (to - from) * t / span;
}

static double value(const char *key, int gpu) {
    struct line *l = find(key, NULL, gpu);
    if (!l) die("no %s", key);
    return number(l, 0);
}

static nvmlReturn_t code(const char *name) {
    static const struct {
        const char *name;
        nvmlReturn_t code;
    } codes[] = {
#define CODE(c) {#c, c}
        CODE(NVML_SUCCESS), CODE(NVML_ERROR_UNINITIALIZED), CODE(NVML_ERROR_INVALID_ARGUMENT),
        CODE(NVML_ERROR_NOT_SUPPORTED), CODE(NVML_ERROR_NO_PERMISSION), CODE(NVML_ERROR_NOT_FOUND),
        CODE(NVML_ERROR_DRIVER_NOT_LOADED), CODE(NVML_ERROR_TIMEOUT), CODE(NVML_ERROR_IRQ_ISSUE),
        CODE(NVML_ERROR_GPU_IS_LOST), CODE(NVML_ERROR_RESET_REQUIRED), CODE(NVML_ERROR_LIB_RM_VERSION_MISMATCH),
        CODE(NVML_ERROR_IN_USE), CODE(NVML_ERROR_MEMORY), CODE(NVML_ERROR_NO_DATA), CODE(NVML_ERROR_NOT_READY),
        CODE(NVML_ERROR_UNKNOWN),
    };
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (!strcmp(codes[i].name, name)) return codes[i].code;
    char *end;
    long n = strtol(name, &end, 10);
    if (*name == 0 || *end) die("no such error: %s", name);
    return (nvmlReturn_t)n;
}

static nvmlReturn_t scripted(const char *name, int gpu) {
    struct line *l = find("error", name, gpu);
    return l ? code(l->text) : NVML_SUCCESS;
}

static int lost(int gpu) {
    struct line *l = find("lost", NULL, gpu);
    int is = l && strcmp(l->text, "off") != 0;
    if (is && !was_lost[gpu]) generation[gpu]++;
    was_lost[gpu] = is;
    return is;
}

// enter begins a call: it waits as scripted, without the lock, and gives the
// call's error. If that is success the lock is held.
static nvmlReturn_t enter(const char *function, const nvmlDevice_t *device) {
    pthread_mutex_lock(&lock);
    refresh();
    struct line *l = find("log", NULL, ANY);
    if (l) {
        FILE *f = fopen(l->text, "a");
        if (!f) die("log %s: %s", l->text, strerror(errno));
        fprintf(f, "%s\n", function);
        fclose(f);
    }
    int gpu = device && device->handle ? device->handle->gpu : ANY;
    if ((l = find("delay_ms", function, gpu))) {
        double s = number(l, 0) / 1e3;
        struct timespec ts = {(time_t)s, (long)((s - (time_t)s) * 1e9)};
        pthread_mutex_unlock(&lock);
        // A signal to the process may come to this thread.
        while (nanosleep(&ts, &ts) != 0 && errno == EINTR) {}
        pthread_mutex_lock(&lock);
    }
    nvmlReturn_t ret = scripted(function, gpu);
    if (ret == NVML_SUCCESS && inits == 0 && strncmp(function, "nvmlInit", 8))
        ret = NVML_ERROR_UNINITIALIZED;
    else if (ret == NVML_SUCCESS && device && gpu == ANY)
        ret = NVML_ERROR_INVALID_ARGUMENT;
    else if (device && gpu != ANY && (lost(gpu) || device->handle->generation != generation[gpu]))
        ret = NVML_ERROR_GPU_IS_LOST;
    if (ret != NVML_SUCCESS) pthread_mutex_unlock(&lock);
    return ret;
}

static nvmlReturn_t leave(nvmlReturn_t ret) {
    pthread_mutex_unlock(&lock);
    return ret;
}

#define ENTER(device)                                \
    do {                                             \
        nvmlReturn_t r_ = enter(__func__, (device)); \
        if (r_ != NVML_SUCCESS) return r_;           \
    } while (0)

static nvmlReturn_t text(const char *key, int gpu, char *to, unsigned int length) {
    struct line *l = find(key, NULL, gpu);
    char made[NVML_DEVICE_PCI_BUS_ID_BUFFER_SIZE * 2];
    const char *from = made;
    if (l)
        from = l->text;
    else if (!strcmp(key, "uuid"))
        snprintf(made, sizeof made, "GPU-00000000-0000-4000-8000-%012d", gpu);
    else
        snprintf(made, sizeof made, "00000000:%02X:00.0", 0x10 + gpu);
    if (strlen(from) + 1 > length) return NVML_ERROR_INSUFFICIENT_SIZE;
    strcpy(to, from);
    return NVML_SUCCESS;
}

// The library.

static nvmlReturn_t init(void) {
    inits++;
    return leave(NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlInit_v2(void) {
    nvmlReturn_t ret = enter("nvmlInit", NULL);
    return ret == NVML_SUCCESS ? init() : ret;
}

EXPORT nvmlReturn_t nvmlInit(void) {
    nvmlReturn_t ret = enter("nvmlInit", NULL);
    return ret == NVML_SUCCESS ? init() : ret;
}

EXPORT nvmlReturn_t nvmlShutdown(void) {
    ENTER(NULL);
    inits--;
    return leave(NVML_SUCCESS);
}

// The driver's own texts are prose, not the names of the codes.
EXPORT const char *nvmlErrorString(nvmlReturn_t result) {
    return result == NVML_ERROR_GPU_IS_LOST ? "GPU is lost" : "Unknown Error";
}

EXPORT nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length) {
    ENTER(NULL);
    return leave(text("driver", ANY, version, length));
}

EXPORT nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version) {
    ENTER(NULL);
    *version = (int)value("cuda", ANY);
    return leave(NVML_SUCCESS);
}

static nvmlReturn_t count(unsigned int *n) {
    *n = (unsigned int)value("gpus", ANY);
    if (*n > MAX_GPUS) die("more than %d GPUs", MAX_GPUS);
    return leave(NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *n) {
    ENTER(NULL);
    return count(n);
}

EXPORT nvmlReturn_t nvmlDeviceGetCount(unsigned int *n) {
    ENTER(NULL);
    return count(n);
}

static nvmlReturn_t handle(unsigned int gpu, nvmlDevice_t *device) {
    if (gpu >= (unsigned int)value("gpus", ANY)) return leave(NVML_ERROR_INVALID_ARGUMENT);
    if (lost(gpu)) return leave(NVML_ERROR_GPU_IS_LOST);
    nvmlReturn_t ret = scripted("handle", gpu);
    if (ret != NVML_SUCCESS) return leave(ret);
    struct nvmlDevice_st *h = &handles[gpu][generation[gpu] % 64];
    h->gpu = gpu;
    h->generation = generation[gpu];
    device->handle = h;
    return leave(NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device) {
    ENTER(NULL);
    return handle(index, device);
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned int index, nvmlDevice_t *device) {
    ENTER(NULL);
    return handle(index, device);
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device) {
    ENTER(NULL);
    for (unsigned int gpu = 0; gpu < (unsigned int)value("gpus", ANY); gpu++) {
        char own[NVML_DEVICE_UUID_V2_BUFFER_SIZE];
        if (text("uuid", gpu, own, sizeof own) == NVML_SUCCESS && !strcmp(own, uuid)) return handle(gpu, device);
    }
    return leave(NVML_ERROR_NOT_FOUND);
}

EXPORT nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length) {
    ENTER(&device);
    return leave(text("uuid", device.handle->gpu, uuid, length));
}

EXPORT nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length) {
    ENTER(&device);
    return leave(text("name", device.handle->gpu, name, length));
}

EXPORT nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci) {
    ENTER(&device);
    memset(pci, 0, sizeof *pci);
    return leave(text("pci", device.handle->gpu, pci->busId, sizeof pci->busId));
}

EXPORT nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned int *current, unsigned int *pending) {
    ENTER(&device);
    *current = *pending = (unsigned int)value("mig", device.handle->gpu);
    return leave(NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory) {
    ENTER(&device);
    memory->total = (unsigned long long)(value("vram_total_mib", device.handle->gpu) * (1 << 20));
    memory->used = (unsigned long long)(value("vram_used_mib", device.handle->gpu) * (1 << 20));
    memory->free = memory->total - memory->used;
    return leave(NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *utilization) {
    ENTER(&device);
    utilization->gpu = (unsigned int)value("util_gpu", device.handle->gpu);
    utilization->memory = (unsigned int)value("util_mem", device.handle->gpu);
    return leave(NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, nvmlTemperatureSensors_t sensor, unsigned int *temp) {
    ENTER(&device);
    if (sensor != NVML_TEMPERATURE_GPU) return leave(NVML_ERROR_INVALID_ARGUMENT);
    *temp = (unsigned int)value("temp_c", device.handle->gpu);
    return leave(NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetTemperatureThreshold(nvmlDevice_t device, nvmlTemperatureThresholds_t which, unsigned int *temp) {
    ENTER(&device);
    if (which != NVML_TEMPERATURE_THRESHOLD_SLOWDOWN && which != NVML_TEMPERATURE_THRESHOLD_SHUTDOWN)
        return leave(NVML_ERROR_NOT_SUPPORTED);
    *temp = (unsigned int)value(which == NVML_TEMPERATURE_THRESHOLD_SLOWDOWN ? "slowdown_c" : "shutdown_c", device.handle->gpu);
    return leave(NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, nvmlClockType_t type, unsigned int *clock) {
    ENTER(&device);
    if (type != NVML_CLOCK_SM && type != NVML_CLOCK_MEM) return leave(NVML_ERROR_INVALID_ARGUMENT);
    *clock = (unsigned int)value(type == NVML_CLOCK_SM ? "sm_mhz" : "mem_mhz", device.handle->gpu);
    return leave(NVML_SUCCESS);
}

#define NUMBER(function, type, key)                                 \
    EXPORT nvmlReturn_t function(nvmlDevice_t device, type *to) {   \
        ENTER(&device);                                             \
        *to = (type)value(key, device.handle->gpu);                 \
        return leave(NVML_SUCCESS);                                 \
    }

NUMBER(nvmlDeviceGetPowerUsage, unsigned int, "power_mw")
NUMBER(nvmlDeviceGetTotalEnergyConsumption, unsigned long long, "energy_mj")
NUMBER(nvmlDeviceGetEnforcedPowerLimit, unsigned int, "limit_mw")
NUMBER(nvmlDeviceGetPowerManagementDefaultLimit, unsigned int, "default_limit_mw")
NUMBER(nvmlDeviceGetArchitecture, nvmlDeviceArchitecture_t, "arch")
NUMBER(nvmlDeviceGetPersistenceMode, nvmlEnableState_t, "persistence")
NUMBER(nvmlDeviceGetPerformanceState, nvmlPstates_t, "pstate")
NUMBER(nvmlDeviceGetCurrentClocksEventReasons, unsigned long long, "reasons")
NUMBER(nvmlDeviceGetCurrentClocksThrottleReasons, unsigned long long, "reasons")

EXPORT nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count, nvmlFieldValue_t *values) {
    ENTER(&device);
    int gpu = device.handle->gpu;
    for (int i = 0; i < count; i++) {
        nvmlFieldValue_t *v = &values[i];
        char name[32];
        snprintf(name, sizeof name, "field:%u", v->fieldId);
        const char *key = v->fieldId == NVML_FI_DEV_POWER_INSTANT   ? "instant_mw"
                          : v->fieldId == NVML_FI_DEV_MEMORY_TEMP ? "mem_temp_c"
                                                                  : "average_mw";
        v->nvmlReturn = scripted(name, gpu);
        if (v->fieldId != NVML_FI_DEV_POWER_INSTANT && v->fieldId != NVML_FI_DEV_POWER_AVERAGE && v->fieldId != NVML_FI_DEV_MEMORY_TEMP)
            v->nvmlReturn = NVML_ERROR_INVALID_ARGUMENT;
        if (v->scopeId == NVML_POWER_SCOPE_MODULE && find("module_mw", NULL, gpu))
            key = "module_mw";
        else if (v->scopeId != NVML_POWER_SCOPE_GPU)
            v->nvmlReturn = NVML_ERROR_NOT_SUPPORTED;
        if (v->nvmlReturn != NVML_SUCCESS) continue;
        v->timestamp = (long long)(seconds(CLOCK_REALTIME) * 1e6);
        v->latencyUsec = 0;
        v->valueType = NVML_VALUE_TYPE_UNSIGNED_INT;
        v->value.uiVal = (unsigned int)value(find(key, NULL, gpu) ? key : "power_mw", gpu);
    }
    return leave(NVML_SUCCESS);
}

// The entries are on a grid of the clock that they are stamped with, so that
// two harvests see the same ones.
EXPORT nvmlReturn_t nvmlDeviceGetSamples(nvmlDevice_t device, nvmlSamplingType_t type, unsigned long long seen,
                                         nvmlValueType_t *value_type, unsigned int *count, nvmlSample_t *samples) {
    ENTER(&device);
    int gpu = device.handle->gpu;
    char clock[16];
    double spacing_ms;
    int keep;
    struct line *l = find("samples", NULL, gpu);
    if (sscanf(l->text, "%15s %lf %d", clock, &spacing_ms, &keep) != 3 || spacing_ms <= 0 || keep < 0)
        die("samples: want clock, spacing and count, not: %s", l->text);
    clockid_t id = clock_named(clock, "samples");
    if (type != NVML_TOTAL_POWER_SAMPLES) return leave(NVML_ERROR_NOT_SUPPORTED);
    if (!count) return leave(NVML_ERROR_INVALID_ARGUMENT);
    *value_type = NVML_VALUE_TYPE_UNSIGNED_INT;
    if (!samples) { // room for all, not what is new
        *count = keep + 1;
        return leave(NVML_SUCCESS);
    }
    if (find("samples_repeat", NULL, gpu)) seen = 0;
    struct line *shift = find("samples_shift_s", NULL, gpu), *power = find("power_mw", NULL, gpu);
    double now_us = (seconds(id) + (shift ? number(shift, 0) : 0)) * 1e6, step_us = spacing_ms * 1e3;
    long long newest = (long long)(now_us / step_us);
    unsigned int n = 0;
    for (long long k = newest - keep + 1; k <= newest && n < *count; k++) {
        unsigned long long stamp = (unsigned long long)(k * step_us);
        if (stamp <= seen) continue;
        samples[n].timeStamp = stamp;
        samples[n].sampleValue.uiVal = (unsigned int)number(power, (now_us - stamp) / 1e6);
        n++;
    }
    *count = n;
    return leave(n ? NVML_SUCCESS : NVML_ERROR_NOT_FOUND);
}

struct process {
    unsigned int pid, sm, mem;
    double mib; // negative for no value
};

// processes are those that run now, the last line of each pid.
static int processes(int gpu, struct process *list, int room) {
    int n = 0, gone = 0;
    unsigned int off[MAX_LINES];
    double t = seconds(CLOCK_MONOTONIC) - script_time;
    for (int i = line_count - 1; i >= 0; i--) {
        struct line *l = &lines[i];
        struct process p = {0, 0, 0, 0};
        char mib[32] = "0";
        if (strcmp(l->key, "process") || (l->gpu != ANY && l->gpu != gpu) || l->from > t) continue;
        int got = sscanf(l->text, "%u %u %u %31s", &p.pid, &p.sm, &p.mem, mib);
        char word[8] = "";
        int over = got == 1 && sscanf(l->text, "%*u %7s", word) == 1 && !strcmp(word, "off");
        if (got < 3 && !over) die("process: want pid, SM and memory use, or off, not: %s", l->text);
        p.mib = strcmp(mib, "-") ? atof(mib) : -1;
        int known = 0;
        for (int k = 0; k < n; k++) known |= list[k].pid == p.pid;
        for (int k = 0; k < gone; k++) known |= off[k] == p.pid;
        if (known) continue;
        if (over)
            off[gone++] = p.pid;
        else if (n < room)
            list[n++] = p;
    }
    return n;
}

// A sample for each process that was at work, on a grid of the clock that they
// are stamped with.
EXPORT nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device, nvmlProcessUtilizationSample_t *samples,
                                                    unsigned int *count, unsigned long long seen) {
    ENTER(&device);
    int gpu = device.handle->gpu;
    char clock[16];
    double spacing_ms;
    struct line *l = find("processes", NULL, gpu), *shift = find("processes_shift_s", NULL, gpu);
    if (sscanf(l->text, "%15s %lf", clock, &spacing_ms) != 2 || spacing_ms <= 0)
        die("processes: want clock and spacing, not: %s", l->text);
    clockid_t id = clock_named(clock, "processes");
    if (!count) return leave(NVML_ERROR_INVALID_ARGUMENT);
    double step_us = spacing_ms * 1e3, now_us = (seconds(id) + (shift ? number(shift, 0) : 0)) * 1e6;
    unsigned long long stamp = (unsigned long long)((long long)(now_us / step_us) * step_us);
    struct process list[MAX_LINES];
    unsigned int n = (unsigned int)processes(gpu, list, MAX_LINES), room = *count, busy = 0;
    for (unsigned int i = 0; i < n; i++) {
        if (!list[i].sm && !list[i].mem) continue;
        if (samples && busy < room)
            samples[busy] = (nvmlProcessUtilizationSample_t){
                .pid = list[i].pid, .timeStamp = stamp, .smUtil = list[i].sm, .memUtil = list[i].mem};
        busy++;
    }
    if (!busy || stamp <= seen) return leave(NVML_ERROR_NOT_FOUND);
    *count = busy;
    if (!samples && find("processes_race", NULL, gpu)) --*count;
    return leave(!samples || busy > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_t *infos) {
    ENTER(&device);
    struct process list[MAX_LINES];
    unsigned int n = (unsigned int)processes(device.handle->gpu, list, MAX_LINES), room = *count;
    for (unsigned int i = 0; i < n && i < room; i++)
        infos[i] = (nvmlProcessInfo_t){
            .pid = list[i].pid,
            .usedGpuMemory = list[i].mib < 0 ? (unsigned long long)-1 : (unsigned long long)(list[i].mib * (1 << 20)),
            .gpuInstanceId = (unsigned int)-1, .computeInstanceId = (unsigned int)-1};
    *count = n;
    return leave(n > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlGpmQueryDeviceSupport(nvmlDevice_t device, nvmlGpmSupport_t *support) {
    ENTER(&device);
    if (support->version != NVML_GPM_SUPPORT_VERSION) return leave(NVML_ERROR_INVALID_ARGUMENT);
    support->isSupportedDevice = (unsigned int)value("gpm_supported", device.handle->gpu);
    return leave(NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlGpmSampleAlloc(nvmlGpmSample_t *sample) {
    ENTER(NULL);
    sample->handle = calloc(1, sizeof *sample->handle);
    return leave(NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlGpmSampleFree(nvmlGpmSample_t sample) {
    ENTER(NULL);
    free(sample.handle);
    return leave(NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlGpmSampleGet(nvmlDevice_t device, nvmlGpmSample_t sample) {
    ENTER(&device);
    sample.handle->gpu = device.handle->gpu;
    sample.handle->at = seconds(CLOCK_MONOTONIC);
    return leave(NVML_SUCCESS);
}

// Stricter than the real one, which only advises: samples less than 100 ms
// apart, or the newer one first, are refused.
EXPORT nvmlReturn_t nvmlGpmMetricsGet(nvmlGpmMetricsGet_t *get) {
    ENTER(NULL);
    if (get->version != NVML_GPM_METRICS_GET_VERSION || get->sample1.handle->gpu != get->sample2.handle->gpu ||
        get->sample2.handle->at - get->sample1.handle->at < 0.0999)
        return leave(NVML_ERROR_INVALID_ARGUMENT);
    for (unsigned int i = 0; i < get->numMetrics; i++) {
        char key[16];
        snprintf(key, sizeof key, "gpm_%u", get->metrics[i].metricId);
        struct line *l = find(key, NULL, get->sample1.handle->gpu);
        get->metrics[i].nvmlReturn = l ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
        if (l) get->metrics[i].value = number(l, 0);
    }
    return leave(NVML_SUCCESS);
}
