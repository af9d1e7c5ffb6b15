/* Times MPI_Allreduce (float, sum) in the same way as pccl-perf and bare_ring: medians at the slowest rank, with checked results.
 *
 *   mpirun -n 4 --mca btl tcp,self mpi_allreduce ITERATIONS BYTES...
 *
 * Rank 0 prints one line per size: bytes, microseconds, wrong elements, seconds of processor time of all ranks for one
 * all-reduce. The values are small integers, so every order of summation is exact.
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

enum { MOST_WARM_UP = 5 };

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static float input_value(int rank, size_t i) { return (float)((rank + 1) * (int)(i * 7 % 1021)); }

int main(int argc, char **argv) {
    int rank, size;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    const int iterations = argc > 2 ? atoi(argv[1]) : 0;
    if (iterations < 1) {
        if (rank == 0) fprintf(stderr, "usage: mpirun -n RANKS mpi_allreduce ITERATIONS BYTES...\n");
        MPI_Finalize();
        return 64;
    }
    const int warm_up = iterations < MOST_WARM_UP ? iterations : MOST_WARM_UP;
    unsigned long long wrong_in_all = 0;
    double *times = malloc((size_t)iterations * sizeof *times);
    for (int a = 2; a < argc; a++) {
        const size_t bytes = strtoull(argv[a], NULL, 10), count = bytes / sizeof(float);
        float *input = malloc(bytes), *output = malloc(bytes);
        if (times == NULL || input == NULL || output == NULL) MPI_Abort(MPI_COMM_WORLD, 2);
        for (size_t i = 0; i < count; i++)
            input[i] = input_value(rank, i);
        double cpu = 0, all_cpu;
        for (int i = -warm_up; i < iterations; i++) {
            if (i == 0) cpu = -cpu_seconds();
            const double begin = MPI_Wtime();
            MPI_Allreduce(input, output, (int)count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
            if (i >= 0) times[i] = MPI_Wtime() - begin;
        }
        cpu = (cpu + cpu_seconds()) / iterations;
        MPI_Reduce(&cpu, &all_cpu, 1, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
        qsort(times, (size_t)iterations, sizeof *times, by_value);
        double mine = times[iterations / 2], slowest;
        unsigned long long wrong = 0, all_wrong;
        for (size_t i = 0; i < count; i++)
            wrong += output[i] != input_value(0, i) * (float)(size * (size + 1) / 2);
        MPI_Reduce(&mine, &slowest, 1, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
        MPI_Allreduce(&wrong, &all_wrong, 1, MPI_UNSIGNED_LONG_LONG, MPI_SUM, MPI_COMM_WORLD);
        if (rank == 0) printf("%zu %.3f %llu %.9f\n", bytes, slowest * 1e6, all_wrong, all_cpu);
        fflush(stdout);
        wrong_in_all += all_wrong;
        free(input);
        free(output);
    }
    free(times);
    MPI_Finalize();
    return wrong_in_all > 0;
}
