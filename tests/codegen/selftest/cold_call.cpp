// SPDX-License-Identifier: BSD-2-Clause
// CODEGEN: ok
// The kick in its cold branch goes back into the loop, from out of line.
[[gnu::cold]] void kick();
int codegen_cold_call(const int* p, int n) {
    int sum = 0;
    for (int i = 0; i < n; ++i) {
        sum += p[i];
        if (sum < 0) [[unlikely]] {
            kick();
            sum = 0;
        }
    }
    kick();
    return sum;
}
