"""y = sum_e g_e (W_e x + b_e) (Eq. 4) three ways: plainly, merged for groups of tokens, dispatched token by token."""
