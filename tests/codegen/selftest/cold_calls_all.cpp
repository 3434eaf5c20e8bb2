// SPDX-License-Identifier: BSD-2-Clause
// CODEGEN: ok
// Two cold calls in a loop inside a loop, both out of line, in each compiler's own way.
[[gnu::cold]] void reject(int&);
[[gnu::cold]] void chain(int&);
unsigned codegen_all_cold_calls(int* p, int* q, unsigned n) {
    unsigned sum = 0;
    for (unsigned i = 0; i < n; ++i) {
        int a = p[i];
        if (a < 0) [[unlikely]]
            reject(a);
        else if (a & 32) [[unlikely]]
            chain(a);
        q[i] = a;
        sum += static_cast<unsigned>(a);
    }
    return sum;
}
