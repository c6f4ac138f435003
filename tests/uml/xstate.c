/*
 * For user-mode Linux 6.1 on a processor with AMX. User-mode Linux stores 2696 bytes of a process's extended state, enough
 * up to AVX-512 and PKRU. With AMX the state is longer, and the host's kernel refuses a shorter one (EFAULT): the guest
 * panics at its first process. This library, preloaded, sets the first bytes and leaves the rest as it is. No program in
 * the guest uses AMX.
 */
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static char whole[65536];

static long call(long request, long pid, void *addr, void *data)
{
    return syscall(SYS_ptrace, request, pid, addr, data);
}

long ptrace(enum __ptrace_request request, ...)
{
    va_list arguments;
    va_start(arguments, request);
    long pid = va_arg(arguments, int), result, word = 0;
    void *addr = va_arg(arguments, void *), *data = va_arg(arguments, void *);
    va_end(arguments);

    if (request == PTRACE_SETREGSET && (long)addr == NT_X86_XSTATE) {
        struct iovec *given = data, all = {whole, sizeof(whole)};
        result = call(PTRACE_GETREGSET, pid, addr, &all);
        if (result < 0)
            return result;
        memcpy(whole, given->iov_base, given->iov_len < all.iov_len ? given->iov_len : all.iov_len);
        return call(request, pid, addr, &all);
    }
    /* the system call writes the word through its last argument; ptrace() returns it */
    if (request == PTRACE_PEEKTEXT || request == PTRACE_PEEKDATA || request == PTRACE_PEEKUSER) {
        result = call(request, pid, addr, &word);
        if (result < 0)
            return result;
        errno = 0;
        return word;
    }
    return call(request, pid, addr, data);
}
