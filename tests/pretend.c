// A pretended NVIDIA driver and cuBLAS, for tests on machines without a GPU: the functions that minigrad looks up.
//
// Device memory is one file mapped twice: the addresses handed out lie in a mapping that nobody may touch, so that host code
// that does crashes, and kernels run on the other one. Everything that is asynchronous on a GPU waits in a queue until
// somebody synchronises, so that memory reused too early shows; memory is garbage when it is handed out and given back.
// A "cubin" is a struct Image: a CPU kernel of the same name, and which parameter is which argument.
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_DEVICE = 101, INVALID_CONTEXT = 201, INVALID_HANDLE = 400,
       NOT_READY = 600, ILLEGAL_ADDRESS = 700, CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901 };
enum { MOST_ARGUMENTS = 96, DIMS = 40, GRANULE = 512, DEVICES = 4, NAMES = 128 };
#define SPACE ((size_t)1 << 32)

typedef void (*kernel_t)(void **, intptr_t *, double *, intptr_t, intptr_t);
typedef unsigned long long ptr;

typedef struct {
    char magic[8];
    kernel_t kernel;
    int64_t count, tables, check;     // parameters; whether buffers hold addresses; what its twin would complain of
    void *bound[16];                  // buffers that are addresses of other CPU kernels
    char kind[MOST_ARGUMENTS];        // p buffer, i dim, m DIMS dims, f d scalars, s scalars on the device, e errors, u units
    uint8_t index[MOST_ARGUMENTS];
} Image;

typedef struct { int device; } Context;
typedef struct { uint64_t at; int timing; } Event;
typedef struct { int device; size_t used, peak, reserved, limit; } Pool;

typedef struct Work {
    struct Work *next;
    uint64_t at;
    void (*run)(struct Work *);
    ptr to, from;
    const void *host;
    void *host_to;
    size_t n;
    uint64_t value;
    const Image *image;
    void *bufs[MOST_ARGUMENTS];
    size_t ends[MOST_ARGUMENTS];
    intptr_t dims[2 * MOST_ARGUMENTS];
    double scalars[MOST_ARGUMENTS];
    double *scalars_there;
    int64_t *errors;
    intptr_t units;
    int ta, tb, kind;
    int64_t m, k, lda, ldb, ldy, batch, sa, sb, sy;
    double alpha, beta;
    const void *a, *b;
} Work;

typedef struct { struct Work **nodes; size_t n; int device; } Graph;   // its nodes run one after the other
typedef struct { struct Work *works; size_t n; Graph *of; } Ready;
typedef struct { int device; Graph *into; int broken; } Stream;        // into: while it is captured

static char *there, *here;            // the mapping of addresses handed out, and the one that can be used
static size_t top;                    // bytes of it that were ever used
static uint32_t *sizes;               // by granule: of the block that starts there
static uint8_t *owners;               // and the device it is on
static Context contexts[DEVICES];
static Stream streams[DEVICES];
static Pool pools[DEVICES];
static int devices, sticky;
static __thread Context *current;
static Work *first, *last;
static uint64_t queued, done;
static int capturing;                 // streams
static int64_t graphs;                // that were made and not destroyed, of both kinds
static struct { const char *name; int64_t calls; int fails; int code; } known[NAMES];

// --- for the tests -----------------------------------------------------------------------------------------------------

int pretend_start(int n) {
    int file = memfd_create("pretended GPU", 0);
    if (file < 0 || ftruncate(file, SPACE)) return -1;
    there = mmap(NULL, SPACE, PROT_NONE, MAP_SHARED | MAP_NORESERVE, file, 0);
    here = mmap(NULL, SPACE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file, 0);
    close(file);
    sizes = calloc(SPACE / GRANULE, sizeof(*sizes));
    owners = calloc(SPACE / GRANULE, 1);
    if (there == MAP_FAILED || here == MAP_FAILED || !sizes || !owners) return -1;
    devices = n;
    for (int i = 0; i < DEVICES; i++) contexts[i].device = streams[i].device = pools[i].device = i, pools[i].limit = SPACE / DEVICES;
    return 0;
}

static int slot_of(const char *name) {
    for (int i = 0; i < NAMES; i++) {
        if (!known[i].name) known[i].name = strdup(name);
        if (!strcmp(known[i].name, name)) return i;
    }
    abort();
}

int64_t pretend_calls(const char *name) { return known[slot_of(name)].calls; }
void pretend_fail(const char *name, int times, int code) { int i = slot_of(name); known[i].fails = times; known[i].code = code; }
void pretend_limit(int device, size_t bytes) { pools[device].limit = bytes; }
int64_t pretend_graphs(void) { return graphs; }
int64_t pretend_pending(void) { return queued - done; }
void *pretend_here(ptr p) { return here + (p - (ptr)(uintptr_t)there); }

static int enter(int i) {
    known[i].calls++;
    if (known[i].fails) { known[i].fails--; return known[i].code; }
    return OK;
}
#define ENTER static int slot = -1; if (slot < 0) slot = slot_of(__func__); int failed = enter(slot); if (failed) return failed
#define IN(stream) do { if (!current || current->device != ((Stream *)(stream))->device) return INVALID_CONTEXT; \
                        if (sticky) return sticky; } while (0)

// --- the queue ---------------------------------------------------------------------------------------------------------

static int is_there(ptr p, size_t n) { return p >= (ptr)(uintptr_t)there && p + n <= (ptr)(uintptr_t)there + top; }

static void *use(ptr p, size_t n) {
    if (!is_there(p, n)) { sticky = ILLEGAL_ADDRESS; return NULL; }
    return pretend_here(p);
}

static void enqueue(Work *w) {
    w->next = NULL, w->at = ++queued;
    if (last) last->next = w; else first = w;
    last = w;
}

static Work *later(Stream *s, void (*run)(Work *)) {
    Work *w = calloc(1, sizeof(Work));
    if (!w) abort();
    w->run = run;
    if ((uintptr_t)s > 2 && s->into) {
        s->into->nodes = realloc(s->into->nodes, sizeof(Work *) * (s->into->n + 1));
        s->into->nodes[s->into->n++] = w;
    } else
        enqueue(w);
    return w;
}

// What may not be captured, and what a capture does not want beside it: memory from a pool would belong to the graph, and
// pinned memory would be read again by each launch of it.
#define NOT_CAPTURED(s) do { if ((uintptr_t)(s) > 2 && ((Stream *)(s))->into) { ((Stream *)(s))->broken = 1; return CAPTURE_UNSUPPORTED; } } while (0)
#define NOT_BESIDE do { if (capturing) return CAPTURE_UNSUPPORTED; } while (0)

static void step(void) {
    Work *w = first;
    first = w->next;
    if (!first) last = NULL;
    if (!sticky) w->run(w);
    done = w->at;
    free(w);
}

static int finish(void) { while (first) step(); return sticky; }

static void run_in(Work *w) { void *p = use(w->to, w->n); if (p) memcpy(p, w->host, w->n); }
static void run_out(Work *w) { void *p = use(w->from, w->n); if (p) memcpy(w->host_to, p, w->n); }
static void run_copy(Work *w) {
    void *to = use(w->to, w->n), *from = use(w->from, w->n);
    if (to && from) memcpy(to, from, w->n);
}
static void run_set(Work *w) {
    char *p = use(w->to, w->n * w->kind);
    for (size_t i = 0; p && i < w->n; i++) memcpy(p + i * w->kind, &w->value, w->kind);
}
static void run_set_rows(Work *w) {   // ends[0]: from one to the next
    char *p = use(w->to, w->n * w->ends[0]);
    for (size_t i = 0; p && i < w->n; i++) memcpy(p + i * w->ends[0], &w->value, 4);
}
static void run_nothing(Work *w) {}

// --- errors, devices, contexts -----------------------------------------------------------------------------------------

int cuGetErrorName(int error, const char **text) {
    *text = error == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : error == ILLEGAL_ADDRESS ? "CUDA_ERROR_ILLEGAL_ADDRESS"
          : error == INVALID_CONTEXT ? "CUDA_ERROR_INVALID_CONTEXT" : error == INVALID_HANDLE ? "CUDA_ERROR_INVALID_HANDLE"
          : error == INVALID_VALUE ? "CUDA_ERROR_INVALID_VALUE" : error == NOT_READY ? "CUDA_ERROR_NOT_READY" : NULL;
    return *text ? OK : INVALID_VALUE;
}
int cuGetErrorString(int error, const char **text) {
    *text = error == OUT_OF_MEMORY ? "out of memory" : error == ILLEGAL_ADDRESS ? "an illegal memory access was encountered" : NULL;
    return *text ? OK : INVALID_VALUE;
}
int cuInit(unsigned int flags) { ENTER; return flags ? INVALID_VALUE : OK; }
int cuDriverGetVersion(int *version) { *version = 13000; return OK; }
int cuDeviceGetCount(int *n) { ENTER; *n = devices; return OK; }
int cuDeviceGet(int *d, int i) { ENTER; if (i >= devices) return INVALID_DEVICE; *d = i; return OK; }
int cuDeviceGetName(char *name, int n, int d) { ENTER; snprintf(name, n, "Pretended GPU %d", d); return OK; }
int cuDeviceGetAttribute(int *value, int which, int d) {
    ENTER;
    *value = which == 75 ? 9 : which == 76 ? 0 : -1;
    return OK;
}
int cuDevicePrimaryCtxRetain(void **c, int d) { ENTER; *c = &contexts[d]; return OK; }
int cuCtxGetCurrent(void **c) { ENTER; *c = current; return OK; }
int cuCtxSetCurrent(void *c) { ENTER; current = c; return OK; }
int cuCtxSynchronize(void) { ENTER; return current ? finish() : INVALID_CONTEXT; }

// --- streams, events ---------------------------------------------------------------------------------------------------

int cuStreamCreate(void **s, unsigned int flags) {
    ENTER;
    if (!current || flags > 1) return INVALID_VALUE;
    *s = &streams[current->device];
    if (flags) *s = calloc(1, sizeof(Stream)), ((Stream *)*s)->device = current->device;
    return OK;
}
int cuStreamSynchronize(void *s) { ENTER; IN(s); NOT_CAPTURED(s); return finish(); }
int cuStreamWaitEvent(void *s, Event *e, unsigned int flags) { ENTER; if ((uintptr_t)s > 2) IN(s); return OK; }
int cuEventCreate(Event **e, unsigned int flags) {
    ENTER;
    if (!current) return INVALID_CONTEXT;
    *e = calloc(1, sizeof(Event));
    (*e)->timing = !(flags & 2);
    return OK;
}
int cuEventDestroy_v2(Event *e) { ENTER; free(e); return OK; }
int cuEventRecord(Event *e, void *s) { ENTER; if ((uintptr_t)s > 2) IN(s); NOT_CAPTURED(s); e->at = later(s, run_nothing)->at; return OK; }
int cuEventQuery(Event *e) { ENTER; if (done < e->at) step(); return done < e->at ? NOT_READY : sticky; }
int cuEventSynchronize(Event *e) { ENTER; while (done < e->at) step(); return sticky; }
int cuEventElapsedTime(float *ms, Event *a, Event *b) {
    ENTER;
    if (!a->timing || !b->timing || !a->at || !b->at) return INVALID_HANDLE;
    if (done < a->at || done < b->at) return NOT_READY;
    *ms = 0.001f * ((double)b->at - (double)a->at);
    return OK;
}

// --- memory ------------------------------------------------------------------------------------------------------------

typedef struct { int allocation, handles, location, device; void *security; size_t most; unsigned short usage; unsigned char rest[54]; } Props;

int cuMemPoolCreate(Pool **p, const Props *props) {
    ENTER;
    static const unsigned char zero[54];
    if (props->allocation != 1 || props->handles || props->location != 1 || props->security || props->most || props->usage
        || memcmp(props->rest, zero, 54)) return INVALID_VALUE;
    *p = &pools[props->device];
    return OK;
}
int cuMemPoolSetAttribute(Pool *p, int which, void *value) {
    ENTER;
    if (which == 8 && *(uint64_t *)value == 0) p->peak = p->used;
    else if (which != 4) return INVALID_VALUE;
    return OK;
}
int cuMemPoolGetAttribute(Pool *p, int which, void *value) {
    ENTER;
    if (which != 5 && which != 7 && which != 8) return INVALID_VALUE;
    *(uint64_t *)value = which == 5 ? p->reserved : which == 7 ? p->used : p->peak;
    return OK;
}
// Blocks that were freed are found again by their size alone; all others come from the top.
static struct { size_t size; int device; ptr *at; size_t n, room; } bins[4096];

static int bin_of(int device, size_t size) {
    int i = (size / GRANULE * 2654435761u + device) % 4096;
    while (bins[i].size && (bins[i].size != size || bins[i].device != device)) i = (i + 1) % 4096;
    bins[i].size = size, bins[i].device = device;
    return i;
}
int cuMemPoolTrimTo(Pool *p, size_t keep) {
    ENTER;
    for (int i = 0; i < 4096; i++)
        if (bins[i].size && bins[i].device == p->device)
            while (bins[i].n && p->reserved > keep) bins[i].n--, p->reserved -= bins[i].size;
    return OK;
}
static void garbage(ptr p, size_t n) {
    Work *w = later(NULL, run_set);
    w->to = p, w->n = n, w->kind = 1, w->value = 0xff;
}
int cuMemAllocFromPoolAsync(ptr *p, size_t n, Pool *pool, void *s) {
    ENTER;
    IN(s);
    NOT_BESIDE;
    if (!n) return INVALID_VALUE;
    size_t size = (n + GRANULE - 1) / GRANULE * GRANULE;
    int i = bin_of(pool->device, size);
    if (bins[i].n) *p = bins[i].at[--bins[i].n];
    else {
        if (pool->reserved + size > pool->limit || top + size > SPACE) return OUT_OF_MEMORY;
        *p = (ptr)(uintptr_t)there + top;
        top += size, pool->reserved += size;
    }
    size_t g = (*p - (ptr)(uintptr_t)there) / GRANULE;
    sizes[g] = size / GRANULE, owners[g] = pool->device;
    pool->used += size;
    if (pool->used > pool->peak) pool->peak = pool->used;
    garbage(*p, size);
    return OK;
}
int cuMemFreeAsync(ptr p, void *s) {
    ENTER;
    IN(s);
    NOT_BESIDE;
    size_t g = (p - (ptr)(uintptr_t)there) / GRANULE, size;
    if (!is_there(p, 1) || !sizes[g] || owners[g] != current->device) return INVALID_VALUE;
    size = (size_t)sizes[g] * GRANULE;
    garbage(p, size);
    owners[g] = 255;  // freed; its size stays, for work that is still to be done
    int i = bin_of(current->device, size);
    if (bins[i].n == bins[i].room) bins[i].at = realloc(bins[i].at, sizeof(ptr) * (bins[i].room = 2 * bins[i].room + 8));
    bins[i].at[bins[i].n++] = p;
    pools[current->device].used -= size;
    return OK;
}
int cuMemAlloc_v2(ptr *p, size_t n) { ENTER; *p = (ptr)(uintptr_t)there; return current ? OK : INVALID_CONTEXT; }
int cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
    ENTER;
    *total = pools[current->device].limit;
    *free_bytes = *total - pools[current->device].reserved;
    return OK;
}
int cuMemHostAlloc(void **p, size_t n, unsigned int flags) { ENTER; *p = aligned_alloc(4096, (n + 4095) & ~(size_t)4095); return *p ? OK : OUT_OF_MEMORY; }
int cuMemFreeHost(void *p) { ENTER; free(p); return OK; }
int cuMemHostGetDevicePointer_v2(ptr *there_, void *p, unsigned int flags) { ENTER; *there_ = (ptr)(uintptr_t)p; return OK; }
int cuMemcpyHtoDAsync_v2(ptr to, const void *host, size_t n, void *s) {
    ENTER; IN(s); NOT_CAPTURED(s);
    Work *w = later(s, run_in);
    w->to = to, w->host = host, w->n = n;
    return OK;
}
int cuMemcpyDtoHAsync_v2(void *host, ptr from, size_t n, void *s) {
    ENTER; IN(s); NOT_CAPTURED(s);
    Work *w = later(s, run_out);
    w->from = from, w->host_to = host, w->n = n;
    return OK;
}
int cuMemcpyDtoDAsync_v2(ptr to, ptr from, size_t n, void *s) {
    ENTER; IN(s);
    if (to < from + n && from < to + n) return INVALID_VALUE;
    Work *w = later(s, run_copy);
    w->to = to, w->from = from, w->n = n;
    return OK;
}
int cuMemcpyPeerAsync(ptr to, Context *c, ptr from, Context *d, size_t n, void *s) {
    ENTER; IN(s);
    if (c != current || d == c) return INVALID_VALUE;
    Work *w = later(s, run_copy);
    w->to = to, w->from = from, w->n = n;
    return OK;
}
static int set(void *s, ptr to, uint64_t value, int size, size_t n) {
    if (to % size) return INVALID_VALUE;
    Work *w = later(s, run_set);
    w->to = to, w->value = value, w->kind = size, w->n = n;
    return OK;
}
int cuMemsetD8Async(ptr to, unsigned char v, size_t n, void *s) { ENTER; IN(s); return set(s, to, v, 1, n); }
int cuMemsetD16Async(ptr to, unsigned short v, size_t n, void *s) { ENTER; IN(s); return set(s, to, v, 2, n); }
int cuMemsetD32Async(ptr to, unsigned int v, size_t n, void *s) { ENTER; IN(s); return set(s, to, v, 4, n); }
int cuMemsetD2D32Async(ptr to, size_t pitch, unsigned int v, size_t width, size_t height, void *s) {
    ENTER; IN(s);
    if (to % 4 || pitch % 4 || width != 1 || pitch < 4 * width) return INVALID_VALUE;
    Work *w = later(s, run_set_rows);
    w->to = to, w->value = v, w->n = height, w->ends[0] = pitch;
    return OK;
}

// --- kernels -----------------------------------------------------------------------------------------------------------

int cuModuleLoadData(Image **module, const void *image) {
    ENTER;
    if (!current) return INVALID_CONTEXT;
    if (memcmp(image, "pretend", 8) && memcmp(image, "\x7f" "ELF", 4)) return INVALID_VALUE;
    *module = calloc(1, sizeof(Image));
    if (*(char *)image == 'p') memcpy(*module, image, sizeof(Image));   // a real cubin does nothing here
    return OK;
}
int cuModuleGetFunction(const Image **f, Image *module, const char *name) {
    ENTER;
    *f = module;
    return module->kernel && strcmp(name, "entry") ? 500 : OK;
}
int cuFuncSetAttribute(void *f, int which, int value) { ENTER; return which == 8 && value <= 232448 ? OK : INVALID_VALUE; }

static size_t end_of(ptr p) {   // of the block that p lies in; it may have been freed once kernels run
    size_t g = (p - (ptr)(uintptr_t)there) / GRANULE;
    while (g && !sizes[g]) g--;
    return (g + sizes[g]) * GRANULE;
}

static void translate(ptr p, size_t end) {   // the addresses in a table
    for (size_t i = p - (ptr)(uintptr_t)there; i + 8 <= end; i += 8) {
        ptr *word = (ptr *)(here + i);
        if (is_there(*word, 1)) *word = (ptr)(uintptr_t)pretend_here(*word);
    }
}

static void run_kernel(Work *w) {
    const Image *image = w->image;
    if (!image->kernel) return;
    for (int i = 0; i < image->count; i++) {
        int at = image->index[i];
        if (image->kind[i] != 'p') continue;
        if (at < 16 && image->bound[at]) { w->bufs[at] = image->bound[at]; continue; }
        ptr p = (ptr)(uintptr_t)w->bufs[at];
        if (!p) continue;
        if (!is_there(p, 0)) { sticky = ILLEGAL_ADDRESS; return; }
        if (image->tables) translate(p, w->ends[at]);
        w->bufs[at] = pretend_here(p);
    }
    double *scalars = w->scalars;
    if (w->scalars_there && !(scalars = use((ptr)(uintptr_t)w->scalars_there, 8))) return;
    image->kernel(w->bufs, w->dims, scalars, 0, w->units);
    int64_t *errors = w->errors, bad;
    if (!image->check || !errors || errors[0]) return;
    if (image->check == 1 && (bad = *(int64_t *)w->bufs[1]) >= 0)   // label_stats
        errors[1] = bad, errors[2] = ((int64_t *)w->bufs[2])[bad], errors[3] = w->dims[1], errors[0] = 1;
    for (int i = 0; image->check == 2 && i < 2; i++)                // bce_check
        if (!errors[0] && (bad = ((int64_t *)w->bufs[0])[i]) >= 0) errors[1] = bad, errors[0] = 2 + i;
    for (int64_t i = 0; image->check == 4 && i < w->dims[1]; i++)   // wrap_index
        if (!errors[0] && (bad = ((int64_t *)w->bufs[2])[i]) >= 0)
            errors[1] = bad, errors[2] = ((int64_t *)w->bufs[1])[bad], errors[3] = w->dims[0], errors[0] = 4;
}

static void take_arguments(Work *w, const Image *f, void **values);

int cuLaunchKernel(const Image *f, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx, unsigned int by,
                   unsigned int bz, unsigned int shared, void *s, void **values, void **extra) {
    ENTER; IN(s);
    if (!gx || gy != 1 || gz != 1 || !bx || bx > 1024 || by != 1 || bz != 1 || extra || shared > 232448) return INVALID_VALUE;
    take_arguments(later(s, run_kernel), f, values);
    return OK;
}

static void take_arguments(Work *w, const Image *f, void **values) {
    w->image = f;
    for (int i = 0; i < f->count; i++) {
        int at = f->index[i];
        switch (f->kind[i]) {
            case 'p':
                w->bufs[at] = *(void **)values[i];
                if (is_there((ptr)(uintptr_t)w->bufs[at], 1)) w->ends[at] = end_of((ptr)(uintptr_t)w->bufs[at]);
                break;
            case 'i': w->dims[at] = *(int64_t *)values[i]; break;
            case 'm': memcpy(&w->dims[at], values[i], DIMS * 8); break;
            case 'f': w->scalars[at] = *(float *)values[i]; break;
            case 'd': w->scalars[at] = *(double *)values[i]; break;
            case 's': w->scalars_there = *(double **)values[i]; break;
            case 'e': w->errors = *(int64_t **)values[i]; break;
            case 'u': w->units = *(int64_t *)values[i]; break;
        }
    }
}

// --- graphs ------------------------------------------------------------------------------------------------------------

typedef struct { const Image *f; unsigned int grid[3], block[3], shared; void **values, **extra; void *kernel, *context; } Given;

int cuStreamBeginCapture_v2(Stream *s, int mode) {
    ENTER; IN(s);
    if (mode != 2 || s->into || s == &streams[s->device]) return INVALID_VALUE;
    s->into = calloc(1, sizeof(Graph)), s->into->device = s->device, s->broken = 0;
    capturing++, graphs++;
    return OK;
}
int cuStreamGetCaptureInfo_v3(Stream *s, int *status, uint64_t *id, Graph **graph, Work ***nodes, void **edges, size_t *n) {
    ENTER; IN(s);
    *status = s->broken ? 2 : s->into ? 1 : 0;
    if (!s->into || id || graph || !edges) return s->into ? INVALID_VALUE : OK;
    *n = s->into->n > 0, *nodes = s->into->nodes + s->into->n - 1, *edges = NULL;
    return OK;
}
static int destroy(Graph *g) {
    for (size_t i = 0; i < g->n; i++) free(g->nodes[i]);
    free(g->nodes), free(g), graphs--;
    return OK;
}
int cuGraphDestroy(Graph *g) { ENTER; return destroy(g); }
int cuStreamEndCapture(Stream *s, Graph **graph) {
    Graph *g = s->into;
    s->into = NULL, *graph = NULL, capturing -= g != NULL;
    int slot = slot_of(__func__), failed = enter(slot);   // a capture ends also where that is an error
    if (g && (failed || s->broken)) destroy(g);
    if (failed || !g || s->broken) return failed ? failed : g ? CAPTURE_INVALIDATED : INVALID_VALUE;
    *graph = g;
    return OK;
}
int cuGraphInstantiateWithFlags(Ready **ready, Graph *g, unsigned long long flags) {
    ENTER;
    if (flags || !g->n) return INVALID_VALUE;
    *ready = calloc(1, sizeof(Ready)), graphs++;
    (*ready)->works = calloc(g->n, sizeof(Work)), (*ready)->n = g->n, (*ready)->of = g;
    for (size_t i = 0; i < g->n; i++) (*ready)->works[i] = *g->nodes[i];
    return OK;
}
int cuGraphExecKernelNodeSetParams_v2(Ready *ready, Work *node, const Given *given) {
    ENTER;
    for (size_t i = 0; i < ready->n; i++) {
        Work *w = &ready->works[i];
        if (ready->of->nodes[i] != node) continue;
        if (w->run != run_kernel || w->image != given->f || !given->grid[0] || given->grid[1] != 1 || given->grid[2] != 1
            || !given->block[0] || given->block[1] != 1 || given->block[2] != 1 || given->extra || given->kernel) return INVALID_VALUE;
        memset(w->bufs, 0, sizeof(w->bufs)), memset(w->ends, 0, sizeof(w->ends));
        take_arguments(w, given->f, given->values);
        return OK;
    }
    return INVALID_VALUE;
}
int cuGraphLaunch(Ready *ready, Stream *s) {
    ENTER; IN(s); NOT_CAPTURED(s);
    if (s->device != ready->of->device) return INVALID_CONTEXT;
    for (size_t i = 0; i < ready->n; i++) {
        Work *w = malloc(sizeof(Work));
        if (!w) abort();
        *w = ready->works[i];
        enqueue(w);
    }
    return OK;
}
int cuGraphExecDestroy(Ready *ready) { ENTER; free(ready->works), free(ready), graphs--; return OK; }

// --- cuBLAS ------------------------------------------------------------------------------------------------------------

const char *cublasGetStatusName(int status) { return status == 7 ? "CUBLAS_STATUS_INVALID_VALUE" : "CUBLAS_STATUS_INTERNAL_ERROR"; }
int cublasCreate_v2(void **h) { ENTER; if (!current) return 1; *h = calloc(1, sizeof(void *)); return OK; }
int cublasSetStream_v2(void **h, void *s) { ENTER; *h = s; return OK; }
int cublasSetWorkspace_v2(void **h, void *p, size_t n) { ENTER; return *h && p ? OK : 7; }
int cublasSetMathMode(void **h, int mode) { ENTER; return mode ? 7 : OK; }

// The product is the CPU engine's, as one block, so that small ones have the same bits; see minigrad/ops/_gemm.pyx.
static kernel_t gemms[2];
static int small_kernels;
void pretend_gemm(void *single, void *twice, int small) { gemms[0] = single, gemms[1] = twice, small_kernels = small; }

static int unpacked(int64_t m, int64_t n, int64_t k, int ta, int tb) {
    return small_kernels && m * n * k <= 1000000 && (!tb || (!ta && m * n <= 1200 && k >= 32));
}

static void run_gemm(Work *w) {   // cuBLAS's column-major y is our y.T = op(b).T op(a).T: swap the operands back
    char *a = use((ptr)(uintptr_t)w->b, 1), *b = use((ptr)(uintptr_t)w->a, 1), *y = use(w->to, 1);
    if (!a || !b || !y) return;
    int64_t m = w->n, n = w->m, k = w->k, size = w->kind ? 8 : 4;
    int ta = w->tb, tb = w->ta, gemv = 0;
    if (m == 1 || n == 1)
        gemv = !unpacked(m, n, k, ta, tb) && !(tb && unpacked(m > 1 ? m + 16 : 1, n > 1 ? n + 16 : 1, k, ta, tb));
    intptr_t dims[13] = {m, n, k, w->ldb, w->lda, w->ldy, ta, tb, 1, 1, 1, 0, gemv};
    double scalars[2] = {w->alpha, w->beta};
    for (int64_t t = 0; t < w->batch; t++) {
        void *bufs[6] = {y + t * w->sy * size, a + t * w->sb * size, b + t * w->sa * size};
        gemms[w->kind](bufs, dims, scalars, 0, 1);
    }
}
int cublasGemmStridedBatchedEx_64(void **h, int ta, int tb, int64_t m, int64_t n, int64_t k, const void *alpha, const void *a,
                                  int ka, int64_t lda, long long sa, const void *b, int kb, int64_t ldb, long long sb,
                                  const void *beta, void *y, int ky, int64_t ldy, long long sy, int64_t batch, int compute, int algo) {
    ENTER;
    if (!current || ((Stream *)*h)->device != current->device) return 13;
    int ok = (ka == 0 && compute == 68) || (ka == 1 && compute == 70);
    if (!ok || ka != kb || ka != ky || algo != -1 || lda < (ta ? k : m) || ldb < (tb ? n : k) || ldy < m || lda < 1 || ldb < 1) return 7;
    Work *w = later(*h, run_gemm);
    w->ta = ta, w->tb = tb, w->m = m, w->n = n, w->k = k, w->a = a, w->b = b, w->to = (ptr)(uintptr_t)y, w->lda = lda, w->ldb = ldb, w->ldy = ldy;
    w->kind = ka, w->batch = batch, w->sa = sa, w->sb = sb, w->sy = sy;
    w->alpha = ka ? *(double *)alpha : *(float *)alpha, w->beta = ka ? *(double *)beta : *(float *)beta;
    return OK;
}
int cublasGemmEx_64(void **h, int ta, int tb, int64_t m, int64_t n, int64_t k, const void *alpha, const void *a, int ka, int64_t lda,
                    const void *b, int kb, int64_t ldb, const void *beta, void *y, int ky, int64_t ldy, int compute, int algo) {
    ENTER;
    return cublasGemmStridedBatchedEx_64(h, ta, tb, m, n, k, alpha, a, ka, lda, 0, b, kb, ldb, 0, beta, y, ky, ldy, 0, 1, compute, algo);
}
