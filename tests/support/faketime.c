// The wall clock of a host that is wrong, for any program that is started with this library in LD_PRELOAD.
//
// FAKETIME_FILE holds by how many microseconds, as an int64; it is mapped, so a change is seen at once. The monotonic
// clock stays right, as when a host's time is set, and whoever waits until a wall-clock time notices the step.
// libfaketime does more, but sleep() of Python fails under it (EINVAL), and it shifts the monotonic clock by default.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#define SLICE_NS 20000000L  // how late a step may be noticed by one who waits
#define WAITS_BY_MONOTONIC 2  // glibc, sysdeps/nptl/bits/thread-shared-types.h: __wrefs

static const volatile int64_t *offset_us;

__attribute__((constructor)) static void map_file(void) {
  const char *path = getenv("FAKETIME_FILE");
  int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  void *mapped = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *offset_us, PROT_READ, MAP_SHARED, file, 0);
  if (mapped == MAP_FAILED) abort();  // a test of a true clock would prove nothing
  close(file);
  offset_us = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  int result = (int)syscall(SYS_clock_gettime, clock, now);
  if (result == 0 && offset_us && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
    int64_t us = now->tv_sec * 1000000LL + now->tv_nsec / 1000 + *offset_us;
    now->tv_sec = us / 1000000;
    now->tv_nsec = us % 1000000 * 1000 + now->tv_nsec % 1000;
  }
  return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  (void)zone;
  struct timespec exact;
  if (clock_gettime(CLOCK_REALTIME, &exact)) return -1;
  now->tv_sec = exact.tv_sec;
  now->tv_usec = exact.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *result) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (result) *result = now.tv_sec;
  return now.tv_sec;
}

int timespec_get(struct timespec *now, int base) {
  return base == TIME_UTC && clock_gettime(CLOCK_REALTIME, now) == 0 ? base : 0;
}

// Until when to wait by the monotonic clock, `most_ns` at most, before looking at the wall clock; false = its time has come.
static int next_look(const struct timespec *until, int64_t most_ns, struct timespec *look) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  int64_t left = (until->tv_sec - now.tv_sec) * 1000000000LL + until->tv_nsec - now.tv_nsec;
  if (left <= 0) return 0;
  clock_gettime(CLOCK_MONOTONIC, look);
  int64_t ns = look->tv_nsec + (left < most_ns ? left : most_ns);
  look->tv_sec += ns / 1000000000;
  look->tv_nsec = ns % 1000000000;
  return 1;
}

int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
  if (cond->__data.__wrefs & WAITS_BY_MONOTONIC) return pthread_cond_clockwait(cond, mutex, CLOCK_MONOTONIC, until);
  // In one go: a signal between two slices would be lost. So a step ahead, which ends such a wait on a real host, does not.
  struct timespec look;
  while (next_look(until, INT64_MAX / 2, &look)) {
    int result = pthread_cond_clockwait(cond, mutex, CLOCK_MONOTONIC, &look);
    if (result != ETIMEDOUT) return result;
  }
  return ETIMEDOUT;
}

// What librdkafka waits with. In glibc the two types are pthread's.
int cnd_timedwait(cnd_t *cond, mtx_t *mutex, const struct timespec *until) {
  int result = pthread_cond_timedwait((pthread_cond_t *)cond, (pthread_mutex_t *)mutex, until);
  return result == 0 ? thrd_success : result == ETIMEDOUT ? thrd_timedout : thrd_error;
}

int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict until) {
  struct timespec look;
  while (next_look(until, SLICE_NS, &look)) {
    if (sem_clockwait(semaphore, CLOCK_MONOTONIC, &look) == 0) return 0;
    if (errno != ETIMEDOUT) return -1;
  }
  if (sem_trywait(semaphore) == 0) return 0;
  errno = ETIMEDOUT;
  return -1;
}
