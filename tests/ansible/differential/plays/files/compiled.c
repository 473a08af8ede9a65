#include <stdio.h>
#include <string.h>

/* A module that is a program: its one argument names a file with JSON. */
int main(int argc, char **argv)
{
    char text[4096];
    FILE *args;
    size_t size;

    if (argc != 2 || !(args = fopen(argv[1], "r"))) {
        printf("{\"failed\": true, \"msg\": \"no arguments\"}\n");
        return 1;
    }
    size = fread(text, 1, sizeof text - 1, args);
    text[size] = 0;
    fclose(args);
    if (strstr(text, "\"how\": \"crash\"")) {
        fprintf(stderr, "going down\n");
        fflush(stderr);
        *(volatile int *)0 = 1;
    }
    printf("{\"changed\": %s, \"argc\": %d, \"said\": \"compiled\"}\n", strstr(text, "\"how\": \"change\"") ? "true" : "false", argc);
    return 0;
}
