// SPDX-License-Identifier: BSD-2-Clause
// CODEGEN: a call inside the loop
// Two jumps back to one head: the call lies behind the first of them.
int work(int);
int codegen_call_after_continue(const int* p, int n) {
    int sum = 0;
    for (int i = 0; i < n; ++i) {
        sum += p[i];
        if (p[i] & 1) continue;
        sum ^= work(sum);
    }
    return sum;
}
