// Runs one kernel on the CPU as standard input says, and writes the memory that its
// arguments point to. A request is a line
//
//	KERNEL GRID_X GRID_Y GRID_Z THREADS SHARED ARGUMENTS
//
// and for each argument a line "value BYTES" or "memory BYTES" and so many bytes. Memory is
// followed, from its next multiple of 16 bytes on, by a page that must not be touched.
#include "../device.h"

#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <random>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#include <vector>

Here here;

static Kernel *kernels;
Kernel::Kernel(const char *name) : name(name), next(kernels) { kernels = this; }

[[noreturn]] static void fail(const char *what) {
  fprintf(stderr, "%s, in thread %d of block %d,%d,%d\n", what, here.thread, here.block[0], here.block[1], here.block[2]);
  exit(1);
}
void check_aligned(const void *p, int bytes) {
  if ((u64)p % bytes) fail("so many bytes at an address that is not a multiple of them");
}

struct Copy {
  Shared to;
  const void *from;
  bool there;
};

// Coroutine is a thread of the block that runs.
struct Coroutine {
  ucontext_t begin;
  jmp_buf at;
  bool begun, ended;
  std::vector<char> stack;
  std::deque<std::vector<Copy>> groups; // the last is not committed yet
};

// Meeting is where so many threads wait for each other.
struct Meeting {
  int arrived, turn;
};
struct Warp : Meeting {
  void *brought[32];
  int rest; // so many turns that it does not take
};

static std::vector<Coroutine> threads;
static std::vector<Warp> warps;
static Meeting block;
static jmp_buf scheduler;
static const Kernel *kernel;
static std::vector<void *> arguments;
static bool progress;
static std::mt19937 chance;

static void yield() {
  Coroutine &me = threads[here.thread];
  if (!_setjmp(me.at)) _longjmp(scheduler, 1);
}
static void meet(Meeting &m, int n) {
  int turn = m.turn;
  progress = true;
  if (++m.arrived == n) m.arrived = 0, m.turn++;
  else
    while (m.turn == turn) yield();
}

void barrier() { meet(block, threads.size()); }
void *const *exchange(void *mine) {
  Warp &warp = warps[thread() / 32];
  warp.brought[thread() % 32] = mine;
  done();
  return warp.brought;
}
void done() { meet(warps[thread() / 32], 32); }

static void make(const Copy &c) {
  if (c.there) memcpy(c.to, c.from, 16);
  else memset(c.to, 0, 16);
}
// A copy is made at once, where it may be too early for a thread that still reads,
// or when it is waited for, where it may be too late.
void copy_async(Shared to, const void *from, bool there) {
  check_aligned(to), check_aligned(from);
  Copy c = {to, from, there};
  if (chance() % 2) make(c);
  else threads[thread()].groups.back().push_back(c);
}
void commit() { threads[thread()].groups.emplace_back(); }
void wait_for(int n) {
  for (auto &groups = threads[thread()].groups; (int)groups.size() - 1 > n; groups.pop_front())
    for (Copy &c : groups.front()) make(c);
}

static void body() {
  kernel->run(arguments.data());
  progress = threads[here.thread].ended = true;
  _longjmp(scheduler, 1);
}

// resume gives a thread its turn, until it yields or ends.
static void resume(Coroutine &c) {
  if (_setjmp(scheduler)) return;
  if (c.begun) _longjmp(c.at, 1);
  c.begun = true;
  setcontext(&c.begin);
}

// run_block gives all threads their turns, in an order of its own each time, and lets
// a warp fall behind now and then, so that a barrier that is missing shows.
static void run_block(int shared) {
  static std::vector<Quad> memory;
  memory.resize((shared + 15) / 16);
  here.dynamic = (char *)memory.data();
  memset(here.dynamic, 0xff, shared); // NaNs
  std::vector<int> order;
  for (int i = 0; i < (int)threads.size(); i++) {
    Coroutine &c = threads[i];
    c.begun = c.ended = false;
    c.groups.assign(1, {});
    getcontext(&c.begin);
    c.begin.uc_stack.ss_sp = c.stack.data(), c.begin.uc_stack.ss_size = c.stack.size();
    makecontext(&c.begin, body, 0);
    order.push_back(i);
  }
  for (size_t left = order.size(); left > 0;) {
    std::shuffle(order.begin(), order.end(), chance);
    if (chance() % 8 == 0) warps[chance() % warps.size()].rest = chance() % 64;
    progress = false;
    for (Warp &w : warps)
      if (w.rest > 0) w.rest--, progress = true;
    for (int i : order) {
      if (threads[i].ended || warps[i / 32].rest > 0) continue;
      here.thread = i;
      resume(threads[i]);
      left -= threads[i].ended;
    }
    if (!progress) fail("threads wait for others that never come");
  }
}

// read_memory reads so many bytes to the end of pages that are followed by one that
// cannot be touched.
static char *read_memory(size_t bytes) {
  const size_t page = sysconf(_SC_PAGESIZE), used = (bytes + 15) / 16 * 16, pages = (used + page - 1) / page * page;
  char *all = (char *)mmap(0, pages + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (all == MAP_FAILED || mprotect(all + pages, page, PROT_NONE)) fail("no memory");
  char *p = all + pages - used;
  if (fread(p, 1, bytes, stdin) != bytes) fail("the request is cut short");
  return p;
}

int main() {
  char name[100], kind[10];
  int grid[3], block_threads, shared, n;
  if (scanf("%99s %d %d %d %d %d %d", name, grid, grid + 1, grid + 2, &block_threads, &shared, &n) != 7) fail("no request");
  std::vector<int> sizes;
  std::vector<std::pair<char *, size_t>> memory;
  for (int i = 0; i < n; i++) {
    size_t bytes;
    if (scanf("%9s %zu", kind, &bytes) != 2 || getchar() != '\n') fail("an argument that is no value and no memory");
    char *p = read_memory(bytes);
    if (kind[0] == 'm') {
      memory.push_back({p, bytes});
      p = (char *)new void *(p), bytes = sizeof(void *);
    }
    sizes.push_back(bytes), arguments.push_back(p);
  }
  for (kernel = kernels; kernel && strcmp(kernel->name, name); kernel = kernel->next) {}
  if (!kernel) fail("no such kernel");
  if (!kernel->takes(sizes.data(), n)) fail("other parameters than the kernel has");

  threads.resize(block_threads), warps.resize((block_threads + 31) / 32);
  for (Coroutine &c : threads) c.stack.resize(128 << 10);
  here.blocks_x = grid[0];
  for (int z = 0; z < grid[2]; z++)
    for (int y = 0; y < grid[1]; y++)
      for (int x = 0; x < grid[0]; x++) {
        here.block[0] = x, here.block[1] = y, here.block[2] = z;
        run_block(shared);
      }
  for (auto [p, bytes] : memory) fwrite(p, 1, bytes, stdout);
}
