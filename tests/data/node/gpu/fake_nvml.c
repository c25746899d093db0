/* A stand-in for NVIDIA's management library (libnvidia-ml.so.1): two devices, the functions that Piton calls, and nothing behind
   them. With -DSICK the first has errors and the second has fallen off the bus; with -DOLD the functions of newer drivers are
   missing; with -DABSENT there is no driver. */
#include <stdio.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15 };

#ifdef SICK
#define IF_SICK(sick, well) (sick)
#else
#define IF_SICK(sick, well) (well)
#endif

typedef struct { unsigned index; } device;
static device devices[2] = {{0}, {1}};

int nvmlInit_v2(void) {
#ifdef ABSENT
    return DRIVER_NOT_LOADED;
#else
    return SUCCESS;
#endif
}

int nvmlShutdown(void) { return SUCCESS; }

int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return SUCCESS; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, device **handle) {
    if (index >= 2) return INVALID_ARGUMENT;
    if (IF_SICK(index == 1, 0)) return GPU_IS_LOST;
    *handle = &devices[index];
    return SUCCESS;
}

int nvmlDeviceGetUUID(device *d, char *text, unsigned length) {
    return snprintf(text, length, "GPU-0000-%u", d->index) < (int)length ? SUCCESS : INVALID_ARGUMENT;
}

int nvmlDeviceGetName(device *d, char *text, unsigned length) {
    (void)d;
    /* To the last byte, without an end: the caller must not run past it. */
    memset(text, 'x', length);
    return SUCCESS;
}

int nvmlDeviceGetTemperature(device *d, unsigned sensor, unsigned *celsius) {
    if (sensor != 0) return INVALID_ARGUMENT;
    *celsius = IF_SICK(95, 55 + d->index);
    return SUCCESS;
}

int nvmlDeviceGetTemperatureThreshold(device *d, unsigned kind, unsigned *celsius) {
    (void)d;
    if (kind != 1) return INVALID_ARGUMENT;
    *celsius = 92;
    return SUCCESS;
}

int nvmlDeviceGetPowerUsage(device *d, unsigned *milliwatts) { (void)d; *milliwatts = 350500; return SUCCESS; }

int nvmlDeviceGetUtilizationRates(device *d, unsigned percent[2]) {
    (void)d;
    percent[0] = 87;
    percent[1] = 40;
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(device *d, unsigned long long bytes[3]) {
    (void)d;
    bytes[0] = 80ULL << 30;
    bytes[1] = 60ULL << 30;
    bytes[2] = 20ULL << 30;
    return SUCCESS;
}

int nvmlDeviceGetTotalEccErrors(device *d, unsigned kind, unsigned counter, unsigned long long *count) {
    (void)d;
    if (counter != 0) return INVALID_ARGUMENT;
    *count = kind == 0 ? 7 : IF_SICK(3, 0);
    return SUCCESS;
}

int nvmlDeviceGetRetiredPagesPendingStatus(device *d, unsigned *pending) {
    (void)d;
    (void)pending;
    return NOT_SUPPORTED;
}

#ifndef OLD
int nvmlDeviceGetCurrentClocksThrottleReasons(device *d, unsigned long long *mask) {
    (void)d;
    *mask = IF_SICK(0x40, 0x1);
    return SUCCESS;
}

int nvmlDeviceGetRemappedRows(device *d, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed) {
    (void)d;
    *corrected = 0;
    *uncorrected = IF_SICK(1, 0);
    *pending = IF_SICK(1, 0);
    *failed = 0;
    return SUCCESS;
}
#endif
