// SPDX-License-Identifier: BSD-2-Clause
// CODEGEN: a call inside the loop
void work(int);
void codegen_call_in_loop(const int* p, int n) {
    for (int i = 0; i < n; ++i) work(p[i]);
}
