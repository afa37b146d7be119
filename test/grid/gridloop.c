// The yardstick for nvpoll's grid: the plainest loop that wakes on absolute
// instants of CLOCK_MONOTONIC, with a timer slack of 1 ns. It prints by how many
// nanoseconds each wake-up was late, one a line, when it is done.
//
//	gridloop PERIOD_MS SECONDS

#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

static long long ns(const struct timespec *t) { return t->tv_sec * 1000000000LL + t->tv_nsec; }

int main(int argc, char **argv) {
    double period_ms = argc == 3 ? atof(argv[1]) : 0, seconds = argc == 3 ? atof(argv[2]) : 0;
    long long period = (long long)(period_ms * 1e6);
    long ticks = period > 0 ? (long)(seconds * 1e9 / (double)period) : 0;
    if (ticks <= 0) {
        fprintf(stderr, "usage: gridloop PERIOD_MS SECONDS\n");
        return 2;
    }
    long long *late = malloc((size_t)ticks * sizeof *late);
    if (!late || prctl(PR_SET_TIMERSLACK, 1UL, 0, 0, 0)) {
        perror("gridloop");
        return 1;
    }
    for (long k = 0; k < ticks; k++) late[k] = -1; // the pages are there before the first tick

    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    long long start = ns(&t) + 2000000;
    for (long k = 0; k < ticks; k++) {
        long long at = start + k * period;
        struct timespec until = {at / 1000000000LL, at % 1000000000LL};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL)) {
        }
        clock_gettime(CLOCK_MONOTONIC, &t);
        late[k] = ns(&t) - at;
    }
    for (long k = 0; k < ticks; k++) printf("%lld\n", late[k]);
    return fflush(stdout) ? 1 : 0;
}
