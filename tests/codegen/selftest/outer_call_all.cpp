// SPDX-License-Identifier: BSD-2-Clause
// CODEGEN: a call inside the loop
// As outer_call, in a function that asks for all of its loops to be clean.
void publish();
int codegen_all_outer_call(const int* p, const int* sizes, int batches) {
    int sum = 0;
    for (int b = 0; b < batches; ++b) {
        for (int i = 0; i < sizes[b]; ++i) sum = sum * 7 + p[i];
        publish();
    }
    return sum;
}
