// SPDX-License-Identifier: BSD-2-Clause
// CODEGEN: ok
// One call per batch is allowed, one per packet is not.
void publish();
int codegen_outer_call(const int* p, const int* sizes, int batches) {
    int sum = 0;
    for (int b = 0; b < batches; ++b) {
        for (int i = 0; i < sizes[b]; ++i) sum = sum * 7 + p[i];
        publish();
    }
    return sum;
}
