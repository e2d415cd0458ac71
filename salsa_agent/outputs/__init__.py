"""What other programs read without D-Bus: the relay files and Postfix's socketmap."""
