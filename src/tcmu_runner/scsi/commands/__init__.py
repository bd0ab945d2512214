"""The commands of a disk, one module per family; a command's function takes (unit, command), returns a plan.

alua                REPORT and SET TARGET PORT GROUPS
comparing           VERIFY, WRITE AND VERIFY, COMPARE AND WRITE
copy_results        RECEIVE COPY RESULTS
diagnostic          SEND DIAGNOSTIC, RECEIVE DIAGNOSTIC RESULTS, READ BUFFER, WRITE BUFFER
extended_copy       EXTENDED COPY(LID1)
format_sanitize     FORMAT UNIT, SANITIZE, READ DEFECT DATA
inquiry             INQUIRY, READ CAPACITY, REPORT SUPPORTED ..., REPORT LUNS
log                 LOG SENSE, LOG SELECT, and the log pages
mode                MODE SENSE, MODE SELECT
persistent_reserve  PERSISTENT RESERVE IN and OUT, RESERVE, RELEASE
provisioning        UNMAP, WRITE SAME, GET LBA STATUS, and filling ranges of the medium
read_write          READ, WRITE, ORWRITE, WRITE ATOMIC, SYNCHRONIZE CACHE, PRE-FETCH
start_stop          TEST UNIT READY, REQUEST SENSE, START STOP UNIT, PREVENT ALLOW MEDIUM REMOVAL
"""
