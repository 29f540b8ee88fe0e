/* A stand-in for NVIDIA's driver library: the four calls by which a host is asked for its GPUs.

   CUDA_STUB is their compute capabilities, as in "8.0 9.0"; CUDA_STUB_RESULT what cuInit answers. Handles of devices
   are not their ordinals, and nothing is told before cuInit. */
#include <stdlib.h>

enum { SUCCESS = 0, INVALID_VALUE = 1, NOT_INITIALIZED = 3, INVALID_DEVICE = 101 };
enum { MAJOR = 75, MINOR = 76, FIRST_HANDLE = 40, MOST = 8 };

static int initialized, count, capabilities[MOST][2];

int cuInit(unsigned int flags) {
    const char *result = getenv("CUDA_STUB_RESULT"), *rest = getenv("CUDA_STUB");
    initialized = 0;
    if (flags != 0) return INVALID_VALUE;
    if (result != NULL) return atoi(result);
    for (count = 0; rest != NULL && *rest != '\0' && count < MOST; count++) {
        char *end;
        capabilities[count][0] = (int)strtol(rest, &end, 10);
        capabilities[count][1] = (int)strtol(end + 1, &end, 10);
        rest = *end == ' ' ? end + 1 : end;
    }
    initialized = 1;
    return SUCCESS;
}

int cuDeviceGetCount(int *answer) {
    if (!initialized) return NOT_INITIALIZED;
    *answer = count;
    return SUCCESS;
}

int cuDeviceGet(int *device, int ordinal) {
    if (!initialized) return NOT_INITIALIZED;
    if (ordinal < 0 || ordinal >= count) return INVALID_DEVICE;
    *device = FIRST_HANDLE + ordinal;
    return SUCCESS;
}

int cuDeviceGetAttribute(int *answer, int attribute, int device) {
    if (!initialized) return NOT_INITIALIZED;
    if (device < FIRST_HANDLE || device >= FIRST_HANDLE + count) return INVALID_DEVICE;
    if (attribute != MAJOR && attribute != MINOR) return INVALID_VALUE;
    *answer = capabilities[device - FIRST_HANDLE][attribute - MAJOR];
    return SUCCESS;
}
